package shapes

// folding is how a thing is lit: folds along a direction, rounding towards its
// edge, a light from one side, grain, and the lens.
type folding struct {
	depth, fine float32 // Of wide and of narrow folds.
	ahead       point   // Folds per unit across, and along.
	rounding    float32
	side        [2]float32
	grain       float32
	sharp       float32 // < 0 blurs.
	exposure    float32
}

func (h hand) folding() folding {
	f := folding{
		depth: float32(h.between(0, 0.4)), fine: float32(h.between(0, 0.15)),
		ahead:    point{h.between(2, 6), h.between(0.3, 2)},
		rounding: float32(h.between(0, 0.35)),
		side:     [2]float32{float32(h.bell(0.25)), float32(h.bell(0.15))},
		grain:    float32(h.between(0, 0.03)),
		sharp:    float32(h.between(-0.4, 0.6)),
		exposure: float32(h.between(0.85, 1.1)),
	}
	if h.held {
		f.depth, f.fine = float32(h.between(0.2, 0.6)), float32(h.between(0.1, 0.3))
		f.ahead = point{h.between(1, 3), h.between(2, 5)}
		f.rounding = float32(h.between(0.25, 0.5))
		f.side = [2]float32{float32(0.25 + h.bell(0.12)), float32(-0.2 + h.bell(0.1))}
		f.grain = float32(h.between(0.02, 0.06))
		f.sharp = float32(h.between(-0.8, 0))
	}
	return f
}

// develop lights what is painted and writes it as bytes over a background.
func (d *drawing) develop(ground colour, pixels []byte) {
	f, n := &d.folds, d.size
	copy(d.soft, d.alpha)
	radius := max(1, (n+14)/28)
	for range 2 {
		blur(d.soft, d.pass, n, radius)
	}
	unit := 1 / float64(n)
	for y := range n {
		for x := range n {
			i := y*n + x
			a := d.alpha[i]
			if a == 0 {
				continue
			}
			u, v := float64(x)*unit, float64(y)*unit
			shade := f.exposure
			shade *= 1 + f.depth*(d.noise.at(f.ahead.x*u+3, f.ahead.y*v)-0.5)
			shade *= 1 + f.fine*(d.noise.at(3*f.ahead.x*u, 3*f.ahead.y*v+5)-0.5)
			shade *= 1 - f.rounding*2*(1-d.soft[i])
			shade *= 1 + f.side[0]*(d.soft[y*n+min(x+radius, n-1)]-d.soft[y*n+max(x-radius, 0)]) +
				f.side[1]*(d.soft[min(y+radius, n-1)*n+x]-d.soft[max(y-radius, 0)*n+x])
			d.paint[i] = d.paint[i].times(max(0, shade))
		}
	}
	for c := range d.channels {
		for i, p := range d.paint {
			d.soft[i] = p[c] + ground[c]*(1-d.alpha[i])
		}
		copy(d.plane, d.soft)
		blur(d.soft, d.pass, n, max(1, n/56))
		for i, p := range d.plane {
			p += f.sharp * (p - d.soft[i]) * 0.7
			if p > 0.01 {
				p += f.grain * float32(d.Float64()-0.5) * 2
			}
			pixels[i*d.channels+c] = byte(max(0, min(1, p))*255 + 0.5)
		}
	}
}

// blur is a box filter of some radius in both directions, the image being
// continued by nothing.
func blur(plane, pass []float32, n, radius int) {
	scale := 1 / float32(2*radius+1)
	for y := range n {
		row, out := plane[y*n:(y+1)*n], pass[y*n:(y+1)*n]
		sum := float32(0)
		for x := -radius; x < n; x++ {
			if x+radius < n {
				sum += row[x+radius]
			}
			if x-radius > 0 {
				sum -= row[x-radius-1]
			}
			if x >= 0 {
				out[x] = sum * scale
			}
		}
	}
	for x := range n {
		sum := float32(0)
		for y := -radius; y < n; y++ {
			if y+radius < n {
				sum += pass[(y+radius)*n+x]
			}
			if y-radius > 0 {
				sum -= pass[(y-radius-1)*n+x]
			}
			if y >= 0 {
				plane[y*n+x] = sum * scale
			}
		}
	}
}
