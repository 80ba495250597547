package eval

import "math/bits"

// mersenne is the generator MT19937 (Matsumoto & Nishimura 1998) with the draws
// of numpy's RandomState, so that our subsets and splits are those of
// torch-fidelity for the same seed. It decides nothing that privacy rests on.
type mersenne struct {
	state [624]uint32
	next  int
}

func newMersenne(seed uint32) *mersenne {
	m := &mersenne{next: 624}
	for i := range m.state {
		m.state[i] = seed
		seed = 1812433253*(seed^seed>>30) + uint32(i) + 1
	}
	return m
}

// uint32 returns the next word.
func (m *mersenne) uint32() uint32 {
	const n, middle = 624, 397
	if m.next == n {
		for i := range n {
			y := m.state[i]&0x80000000 | m.state[(i+1)%n]&0x7fffffff
			m.state[i] = m.state[(i+middle)%n] ^ y>>1 ^ y&1*0x9908b0df
		}
		m.next = 0
	}
	y := m.state[m.next]
	m.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// upTo returns a number in [0, limit], by drawing as many bits as limit has
// until one fits.
func (m *mersenne) upTo(limit int) int {
	mask := uint32(1)<<bits.Len32(uint32(limit)) - 1
	for {
		if v := int(m.uint32() & mask); v <= limit {
			return v
		}
	}
}

// permutation returns the numbers below n in random order.
func (m *mersenne) permutation(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := m.upTo(i)
		p[i], p[j] = p[j], p[i]
	}
	return p
}

// choice returns k different numbers below n.
func (m *mersenne) choice(n, k int) []int { return m.permutation(n)[:k] }
