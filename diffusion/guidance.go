package diffusion

import (
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// Guide sets dst to uncond + scale·(cond - uncond), classifier-free guidance (Ho
// & Salimans 2022, https://arxiv.org/abs/2207.12598, with scale = 1+w): 1 is
// off, 0 ignores the condition. All have one length; dst may be one of the
// others.
func Guide(dst, uncond, cond []float32, scale float64) {
	mustMatch(len(dst), len(uncond), len(cond))
	for i := range dst {
		u := float64(uncond[i])
		dst[i] = float32(u + scale*(float64(cond[i])-u))
	}
}

// GuideNodes is [Guide] in the graph; the nodes have one shape.
func GuideNodes(uncond, cond *Node, scale float64) *Node {
	return Add(uncond, MulScalar(Sub(cond, uncond), scale))
}
