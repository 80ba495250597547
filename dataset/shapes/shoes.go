package shapes

// Shoes are seen from the side: x from the toe at 0 to the heel at 1, y up to
// the ground at 0, where the sole is; upwards is negative.

// face turns most toes left, as shops do, and some right.
func (d *drawing) face() {
	if !d.chance(0.15) {
		return
	}
	for i := range d.layers {
		for k := range d.layers[i].points {
			d.layers[i].points[k].x = 1 - d.layers[i].points[k].x
		}
	}
}

// sole is a slab from toe to heel, high at the back by heel.
func (d *drawing) sole(thick, heel, lift float64) path {
	return from(0.015, -lift-thick).curve(-0.02, -lift*0.4, 0.09, 0).line(0.5, -0.01).
		curve(0.68, -heel*0.3, 0.78, -heel).line(0.985, -heel).line(1, -heel-thick).line(0.8, -heel-thick).
		curve(0.66, -heel*0.4-thick, 0.5, -thick-0.005).line(0.12, -thick-0.005)
}

func (d *drawing) sneaker() {
	f := d.fabric(d, 0.12)
	rubber := &fabric{base: d.tone(colour{0.85, 0.85, 0.85}, 0.15), noise: &d.noise}
	if d.chance(0.4) {
		rubber.base = d.colour(d.channels)
	}
	thick := d.span(0.05, 0.1)
	vamp := d.span(0.17, 0.23)  // Height over the toes.
	top := d.span(0.3, 0.42)    // Of the opening's front.
	heel := d.span(0.3, 0.44)   // Of the back.
	dip := d.span(0.22, 0.3)    // Of the opening's lowest place.
	front := d.span(0.45, 0.55) // Of the opening.
	if d.chance(0.15) {         // A high one.
		up := d.span(1.3, 1.7)
		top, heel, dip = top*up, heel*up, dip*(up+0.2)
	}
	upper := from(0.01, -thick*0.7).curve(0.0, -vamp, 0.14, -vamp-0.01).curve(0.3, -vamp-0.04, front, -top).
		line(front+0.06, -top-0.02).curve(front+0.14, -dip, 0.8, -dip-0.02).curve(0.9, -dip-0.02, 0.94, -heel).
		line(0.985, -heel).curve(0.95, -0.2, 0.995, -thick*0.6)
	if d.chance(0.7) { // The inside, seen over the rim.
		d.area(f, d.between(0.25, 0.6), from(front+0.02, -top-0.01).line(0.95, -heel+0.005).line(0.9, -dip+0.06).line(front+0.1, -dip+0.06))
	}
	d.area(f, 1, upper)
	accent := d.fabric(d, 0.1)
	if d.chance(0.45) { // Toe cap.
		d.mark(accent, d.between(0.7, 1.1), from(-0.05, 0).line(-0.05, -0.4).line(0.17, -0.4).curve(0.23, -0.13, 0.2, 0))
	}
	if d.chance(0.45) { // Heel cap.
		d.mark(accent, d.between(0.7, 1.1), from(0.84, 0).curve(0.86, -0.2, 0.9, -0.5).line(1.05, -0.5).line(1.05, 0))
	}
	if d.chance(0.65) { // Marks of makers: bars, a swoosh, one line.
		mark := &fabric{base: d.colour(d.channels), noise: &d.noise}
		switch d.IntN(3) {
		case 0:
			for i := range 2 + d.IntN(3) {
				x := 0.45 + 0.08*float64(i)
				d.mark(mark, 1, path{{x, -thick}, {x + 0.03, -thick}, {x - 0.03, -dip}, {x - 0.06, -dip}})
			}
		case 1:
			d.mark(mark, 1, from(0.32, -0.16).curve(0.45, -0.04, 0.85, -dip).curve(0.5, -0.12, 0.32, -0.16))
		default:
			d.seam(d.between(-0.5, 0.5), 0.035, from(0.3, -thick-0.02).curve(0.55, -0.14, 0.93, -0.2))
		}
	}
	if d.chance(0.85) { // Laces.
		strength := d.between(-0.6, 0.5)
		n := 3 + d.IntN(4)
		for i := range n {
			t := (float64(i) + 0.5) / float64(n)
			x, y := 0.26+(front-0.24)*t, -vamp-0.03-(top-vamp-0.02)*t
			d.seam(strength, 0.016, path{{x, y}, {x + 0.05, y + 0.07}})
		}
		d.seam(0.25, 0.012, path{{0.27, -vamp + 0.03}, {front + 0.07, -top + 0.1}})
	}
	d.area(rubber, 1, d.sole(thick, d.between(0, 0.012), d.span(0.01, 0.04)))
	d.seam(d.between(0.1, 0.5), 0.014, path{{0.02, -thick}, {0.5, -thick - 0.005}, {1, -thick}})
	if d.chance(0.3) {
		d.seam(0.35, 0.014, path{{0.03, -thick * 0.4}, {1, -thick * 0.4}})
	}
	d.slant = 0.01
	d.face()
}

func (d *drawing) ankleBoot() {
	f := d.fabric(d, 0.06)
	thick := d.span(0.025, 0.06)
	shaft := d.span(0.55, 0.85) // Height of the back.
	rise := shaft - d.between(-0.05, 0.06)
	heel := 0.0
	kind := d.IntN(4) // Flat, block, high, platform.
	switch kind {
	case 1:
		heel = d.span(0.07, 0.14)
	case 2:
		heel = d.span(0.15, 0.27)
	case 3:
		thick = d.span(0.07, 0.12)
	}
	vamp := d.span(0.15, 0.2) + thick*0.5
	front, back := d.span(0.5, 0.58), d.span(0.94, 1.02)
	neck := d.span(0.34, 0.44) + heel*0.3 // Where the shaft rises.
	upper := from(0.01, -thick*0.8).curve(-0.01, -vamp, 0.13, -vamp).curve(0.33, -vamp-0.04-heel*0.2, front-0.02, -neck).
		curve(front+0.03, -neck-0.1, front+d.between(-0.02, 0.03), -rise).line(back, -shaft).
		curve(0.92, -shaft*0.5, 0.985, -heel-0.1).line(0.99, -heel-thick*0.8).line(0.78, -heel-thick*0.8).
		curve(0.66, -heel*0.4-thick, 0.5, -thick)
	if d.chance(0.5) {
		d.area(f, d.between(0.25, 0.55), from(front-0.01, -rise).curve((front+back)/2, -shaft-0.06, back, -shaft).line(back-0.05, -shaft+0.05).line(front+0.05, -rise+0.05))
	}
	d.area(f, 1, upper)
	leather := &fabric{base: d.tone(f.base, 0.3), noise: &d.noise}
	switch kind {
	case 0, 3:
		d.area(leather, d.between(0.4, 1.1), d.sole(thick, 0, d.span(0.005, 0.03)))
		if kind == 0 {
			d.area(leather, d.between(0.4, 1), box(0.74, -thick-0.02, 0.99, 0))
		}
	default:
		d.area(leather, 0.9, d.sole(thick, heel, 0.01))
		w := d.span(0.05, 0.24)
		d.area(leather, d.between(0.6, 1.1), path{{0.99 - w*1.25, -heel - thick*0.6}, {0.99, -heel - thick*0.6}, {0.985, 0}, {0.985 - w, 0}})
	}
	d.seam(0.4, 0.014, path{{0.02, -thick}, {0.5, -thick}, {0.78, -heel - thick}, {1, -heel - thick}})
	switch d.IntN(5) {
	case 0: // Zip.
		x := d.between(0.68, 0.8)
		d.seam(d.between(-0.5, 0.6), 0.018, path{{x, -shaft + 0.03}, {x + 0.02, -heel - 0.15}})
	case 1: // Elastic.
		x := (front + back) / 2
		d.mark(leather, d.between(0.4, 0.8), path{{x - 0.08, -shaft - 0.05}, {x + 0.08, -shaft - 0.05}, {x + 0.05, -neck + 0.08}, {x - 0.05, -neck + 0.08}})
	case 2: // Laces.
		strength := d.between(-0.5, 0.5)
		for i := range 6 {
			t := float64(i) / 6
			x, y := 0.34+(front-0.34)*min(1, 1.6*t), -vamp-0.08-(rise-vamp-0.1)*t
			d.seam(strength, 0.018, path{{x, y}, {x + 0.07, y + 0.03}})
		}
	case 3: // Strap and buckle.
		y := -d.span(0.3, 0.42) - heel*0.5
		d.seam(d.between(-0.4, 0.6), 0.05, path{{front - 0.12, y}, {0.98, y + 0.03}})
		d.seam(-0.6, 0.04, path{{0.74, y + 0.01}, {0.79, y + 0.015}})
	}
	if d.chance(0.4) { // A cuff of fur or knit.
		d.mark(leather, d.between(0.8, 1.4), box(0.4, -1.2, 1.1, -shaft+d.span(0.05, 0.12)))
	}
	if d.chance(0.35) {
		d.seam(0.3, 0.013, from(0.25, -thick).curve(0.4, -0.2, front, -neck+0.02))
	}
	d.slant = 0.01
	d.face()
}

func (d *drawing) sandal() {
	f := d.fabric(d, 0.1)
	leather := &fabric{base: d.tone(f.base, 0.35), noise: &d.noise}
	thick := d.span(0.03, 0.07)
	heel := 0.0
	kind := d.IntN(4) // Flat, wedge, high, platform.
	switch kind {
	case 1:
		heel = d.span(0.12, 0.26)
	case 2:
		heel = d.span(0.25, 0.42)
	case 3:
		thick = d.span(0.08, 0.14)
		heel = d.span(0, 0.1)
	}
	foot := func(x float64) float64 { // Height of the sole's upper side.
		t := max(0, min(1, (x-0.3)/0.5))
		return -thick - heel*t*t*(3-2*t)
	}
	width := d.span(0.045, 0.1)
	height := d.span(0.18, 0.3)
	over := func(x0, x1, up, w float64) {
		y0, y1 := foot(x0), foot(x1)
		d.band(f, d.between(0.75, 1.1), w, from(x0, y0).curve((x0+x1)/2, min(y0, y1)-2*up, x1, y1))
	}
	// Over the toes.
	n := 1 + d.IntN(3)
	for i := range n {
		x := 0.08 + 0.11*float64(i)
		over(x, x+d.span(0.14, 0.24), height*(0.5+0.15*float64(i)), width)
	}
	switch ankle := heel + thick; d.IntN(5) {
	case 0: // A slipper: nothing behind.
	case 1: // Strap around the ankle, and one that holds it at the heel.
		up := -ankle - d.span(0.22, 0.36)
		d.band(f, 1, width*0.8, from(0.97, foot(0.97)).curve(0.93, up*0.7+foot(0.97)*0.3, 0.96, up))
		d.band(f, 0.95, width*0.8, from(0.96, up).curve(0.78, up-0.07, 0.66, up+0.02).curve(0.8, up+0.09, 0.96, up+0.03))
	case 2: // A strap from the middle to the heel.
		d.band(f, 1, width*0.8, from(0.5, foot(0.5)).curve(0.75, foot(0.8)-0.3, 0.97, foot(0.97)-0.12))
		d.band(f, 1, width*0.8, from(0.97, foot(0.97)).line(0.97, foot(0.97)-0.13))
	case 3: // Crossing straps.
		d.band(f, 1, width*0.7, path{{0.3, foot(0.3)}, {0.62, foot(0.62) - 0.3}, {0.92, foot(0.92) - 0.26}, {0.97, foot(0.97)}})
		d.band(f, 0.9, width*0.7, path{{0.62, foot(0.62)}, {0.4, foot(0.4) - 0.22}, {0.66, foot(0.66) - 0.34}})
	case 4: // A closed heel.
		d.area(f, 0.95, from(0.72, foot(0.72)).curve(0.8, foot(0.9)-0.1, 0.93, foot(0.93)-0.26).line(0.98, foot(0.98)-0.25).line(0.985, foot(0.985)))
		over(0.45, 0.75, height, width*0.6)
	}
	if d.chance(0.4) {
		d.mark(&fabric{base: d.colour(d.channels), noise: &d.noise}, 1, oval(0.22, foot(0.2)-height*0.7, 0.035, 0.035))
	}
	p := from(0, -thick*0.8).curve(0, 0, 0.06, 0)
	switch kind {
	case 1, 3: // The ground side is filled.
		p = p.line(0.98, 0)
	default:
		p = p.line(0.35, 0)
		for x := 0.4; x < 0.82; x += 0.05 {
			p = p.line(x, foot(x)+thick)
		}
		p = p.line(0.98, foot(0.98)+thick)
	}
	for x := 1.0; x > 0; x -= 0.05 {
		p = p.line(x, foot(x))
	}
	d.area(leather, d.between(0.6, 1.1), p)
	if kind == 2 {
		w := d.span(0.025, 0.12)
		d.area(leather, d.between(0.6, 1), path{{0.97 - w*1.3 - 0.02, foot(0.9) + thick*0.5}, {0.985, foot(1) + thick*0.5}, {0.975, 0}, {0.975 - w, 0}})
	} else if kind == 0 && d.chance(0.5) {
		d.area(leather, 0.7, box(0.76, -thick*0.5, 0.98, 0.02))
	}
	if d.chance(0.5) {
		d.seam(d.between(-0.4, 0.4), 0.014, path{{0.02, -thick * 0.5}, {0.35, -thick * 0.5}, {0.8, foot(0.8) + thick*0.5}})
	}
	d.slant = 0.008
	d.face()
}
