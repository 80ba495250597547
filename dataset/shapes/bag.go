package shapes

func (d *drawing) bag() {
	f := d.fabric(d, 0.2)
	w, h := d.span(0.38, 0.56), d.span(0.5, 0.85) // Half width, height.
	lean := d.span(0.75, 1.05)                    // Width at the top / at the bottom.
	round := d.span(0.02, 0.14)
	handle := &fabric{base: d.tone(f.base, 0.25), noise: &d.noise}
	thick := d.span(0.025, 0.06)
	top := w * lean
	switch d.IntN(6) { // Handles are behind the body.
	case 0, 1: // Two arches, or one.
		reach, up := top*d.span(0.4, 0.75), d.span(0.2, 0.5)
		d.band(handle, 0.7, thick, from(-reach*0.9, 0.03).curve(-reach*0.9, -up*1.1, 0, -up*1.15).curve(reach*0.9, -up*1.1, reach*0.9, 0.03))
		if d.chance(0.6) {
			d.band(handle, 1, thick, from(-reach, 0.1).curve(-reach, -up, 0, -up).curve(reach, -up, reach, 0.1))
		}
	case 2: // A long strap.
		up := d.span(0.45, 0.8)
		h *= 0.8
		d.band(handle, 0.9, thick*0.8, from(-top*0.95, 0.05).curve(-top*0.8, -up*1.5, 0, -up).curve(top*0.8, -up*1.5, top*0.95, 0.05))
	case 3: // A strap that hangs over the body's sides.
		d.band(handle, 0.85, thick, from(-top, 0.02).curve(-w*0.5, -d.span(0.3, 0.6), 0, -d.span(0.2, 0.35)).curve(w*0.5, -d.span(0.3, 0.6), top, 0.02))
	case 4: // None: a clutch.
		h = d.span(0.35, 0.6)
	case 5: // A short grip on top.
		reach := top * d.span(0.2, 0.35)
		d.band(handle, 0.9, thick*1.2, from(-reach, 0.04).line(-reach, -0.1).curve(0, -0.2, reach, -0.1).line(reach, 0.04))
	}
	body := from(0, -d.span(0, 0.05)).line(top-round, 0).curve(top, 0, top+0.01, round).
		curve((top+w)/2+d.between(-0.03, 0.06), h*0.6, w, h-round).curve(w, h, w-round, h).line(0, h+d.between(0, 0.02))
	d.area(f, 1, body.mirrored())
	if d.chance(0.45) { // A flap.
		low := h * d.span(0.35, 0.7)
		flap := from(0, -0.06).line(top+0.02, -0.02).line(top+0.015, low*0.6).curve(top*0.9, low, 0, low*d.between(1, 1.1)).mirrored()
		d.mark(f, d.between(0.8, 1.1), flap)
		edge := from(top+0.015, low*0.6).curve(top*0.9, low, 0, low*1.05)
		d.seam(0.45, 0.02, edge)
		d.seam(0.45, 0.02, edge.flipped())
		if d.chance(0.7) {
			metal := &fabric{base: d.tone(colour{0.8, 0.8, 0.8}, 0.2), noise: &d.noise}
			d.mark(metal, 1, oval(0, low, 0.045, 0.035))
		}
	} else {
		if d.chance(0.6) {
			d.seam(d.between(-0.4, 0.5), 0.018, path{{-top, 0.07}, {top, 0.07}})
		}
		if d.chance(0.35) { // A pocket on the front.
			p := box(-w*0.6, h*0.42, w*0.6, h*0.88)
			d.seam(0.35, 0.016, append(p, p[0]))
		}
		if d.chance(0.25) {
			d.print(h * 0.5)
		}
	}
	if d.chance(0.35) { // Another cloth at the bottom or the sides.
		part := box(-1, h*d.span(0.65, 0.8), 1, 1.5)
		if d.chance(0.4) {
			part = box(-w*0.5, -0.1, w*0.5, 1.5)
		}
		d.mark(d.fabric(d, 0.2), d.between(0.7, 1.1), part)
	}
	if d.chance(0.2) { // Quilted.
		for x := -1.5; x < 1.5; x += 0.16 {
			d.seam(0.18, 0.012, path{{x, 0}, {x + h, h}})
			d.seam(0.18, 0.012, path{{x + h, 0}, {x, h}})
		}
	}
	d.turn = 0.02
}
