package diffusion

import "fmt"

// Unshuffle turns space into depth: images [n, height, width, channels] →
// [n, height/factor, width/factor, channels·factor²], so that a UNet works on a
// smaller grid without losing a pixel. Output channel = (channel·factor +
// row in cell)·factor + column in cell, as PyTorch's pixel_unshuffle.
func Unshuffle(images []float32, n, height, width, channels, factor int) []float32 {
	return shuffle(images, n, height, width, channels, factor, false)
}

// Shuffle undoes Unshuffle. height, width and channels are of the images that it
// returns.
func Shuffle(cells []float32, n, height, width, channels, factor int) []float32 {
	return shuffle(cells, n, height, width, channels, factor, true)
}

func shuffle(in []float32, n, height, width, channels, factor int, back bool) []float32 {
	if factor < 1 || height%factor != 0 || width%factor != 0 {
		panic(fmt.Errorf("diffusion: images of %d×%d with factor %d, want a divisor of both", height, width, factor))
	}
	mustMatch(len(in), n*height*width*channels)
	out := make([]float32, len(in))
	pixel := 0
	for image := range n {
		for y := range height {
			for x := range width {
				cell := (image*(height/factor)+y/factor)*(width/factor) + x/factor
				for c := range channels {
					depth := (c*factor+y%factor)*factor + x%factor
					deep := cell*channels*factor*factor + depth
					if back {
						out[pixel] = in[deep]
					} else {
						out[deep] = in[pixel]
					}
					pixel++
				}
			}
		}
	}
	return out
}
