package shapes

// torso is what garments of the upper body share. Lengths are in units of its
// height, about; x is half of a width.
type torso struct {
	neck, neckDepth    float64 // Half width and depth of the opening.
	vee                bool
	shoulder, slope    float64 // Half width at the shoulders, and their drop.
	chest, waist, hem  float64 // Half widths.
	armpit, length     float64 // Heights.
	round              float64 // How far the hem hangs in the middle.
	sleeve, cuff       float64 // Length and width at its end; no sleeve is 0.
	angle              float64 // Of the sleeve: 0 to the side, 90 down.
	back               bool    // The inside of the back shows in the opening.
	sleeveFirst, seams bool
}

// body returns the outline of the trunk, without sleeves.
func (t *torso) body() path {
	p := from(0, t.neckDepth)
	if t.vee {
		p = p.line(t.neck, 0)
	} else {
		p = p.curve(t.neck*0.9, t.neckDepth, t.neck, 0)
	}
	p = p.line(t.shoulder, t.slope)
	p = p.curve(t.shoulder-0.03, (t.slope+t.armpit)/2, t.chest, t.armpit)
	middle := t.armpit + 0.45*(t.length-t.armpit)
	p = p.curve(t.waist, middle, (t.waist+t.hem)/2, (middle+t.length)/2)
	p = p.line(t.hem, t.length)
	return p.curve(t.hem*0.4, t.length+t.round, 0, t.length+t.round).mirrored()
}

// arm returns the right sleeve, and its end.
func (t *torso) arm() (sleeve, end path) {
	out := toward(t.angle)
	down := point{-out.y, out.x}
	top := point{t.shoulder, t.slope}
	outer := top.plus(out.times(t.sleeve))
	inner := outer.plus(down.times(t.cuff))
	pit := point{t.chest, t.armpit}
	bow := top.to(outer, 0.35).plus(out.times(0.02)).minus(down.times(0.02 + 0.05*t.sleeve))
	p := from(top.x-0.03, top.y-0.005).curve(bow.x, bow.y, outer.x, outer.y).line(inner.x, inner.y)
	p = p.line(pit.x, pit.y).curve(t.shoulder-0.04, (t.slope+t.armpit)/2, top.x-0.03, top.y-0.005)
	return p, path{outer, inner}
}

// wear draws the trunk and its sleeves.
func (d *drawing) wear(t *torso, f *fabric) {
	arms := func() {
		if t.sleeve == 0 {
			return
		}
		sleeve, end := t.arm()
		shade := d.between(0.82, 1.02)
		d.area(f, shade, sleeve)
		d.area(f, shade*d.between(0.92, 1.05), sleeve.flipped())
		if d.chance(0.5) {
			start := end[0].to(end[1], 0.5).minus(toward(t.angle).times(0.03))
			across := end[1].minus(end[0]).times(0.5)
			hem := path{start.minus(across), start.plus(across)}
			d.seam(0.25, 0.012, hem)
			d.seam(0.25, 0.012, hem.flipped())
		}
	}
	if t.back { // Of the far side, behind the opening.
		rim := from(0, t.neckDepth*0.25).curve(t.neck*0.8, t.neckDepth*0.25, t.neck, 0).
			line(t.neck, 0.02).curve(t.neck*0.9, t.neckDepth*1.05, 0, t.neckDepth*1.05).mirrored()
		d.area(f, d.between(0.35, 0.65), rim)
	}
	if t.sleeveFirst {
		arms()
	}
	d.area(f, 1, t.body())
	if !t.sleeveFirst {
		arms()
	}
	if t.sleeve > 0 && t.seams {
		join := from(t.shoulder-0.01, t.slope).curve(t.shoulder-0.035, (t.slope+t.armpit)/2, t.chest, t.armpit)
		strength := d.between(0.1, 0.45)
		d.seam(strength, 0.014, join)
		d.seam(strength, 0.014, join.flipped())
	}
}

// longSleeves hang beside the trunk.
func (d *drawing) longSleeves(t *torso) {
	t.sleeve, t.cuff = d.span(0.6, 0.82)*t.length, d.span(0.09, 0.13)
	t.angle = d.span(70, 84)
	t.sleeveFirst = d.chance(0.25)
}

// trunk draws the measures that all tops vary in.
func (d *drawing) trunk() *torso {
	t := &torso{
		neck: d.span(0.09, 0.15), neckDepth: d.span(0.05, 0.14), vee: d.chance(0.2),
		shoulder: d.span(0.26, 0.32), slope: d.span(0.05, 0.1),
		chest: d.span(0.24, 0.31), armpit: d.span(0.26, 0.33), length: 1,
		round: d.span(0, 0.03), back: d.chance(0.7), seams: d.chance(0.7),
	}
	t.waist = t.chest * d.span(0.85, 1.02)
	t.hem = t.chest * d.span(0.92, 1.1)
	return t
}

// collarBand follows the opening.
func (d *drawing) collarBand(t *torso, f *fabric, shade, width float64) {
	half := from(0, t.neckDepth)
	if t.vee {
		half = half.line(t.neck, 0)
	} else {
		half = half.curve(t.neck*0.9, t.neckDepth, t.neck, 0)
	}
	d.band(f, shade, width, half)
	d.band(f, shade, width, half.flipped())
}

// print puts a picture on the chest: lines of letters, a disc, a blob, a star.
func (d *drawing) print(y float64) {
	ink := &fabric{base: d.colour(d.channels), noise: &d.noise}
	if d.chance(0.3) {
		ink = d.fabric(d, 0.7)
	}
	r := d.span(0.06, 0.15)
	switch d.IntN(5) {
	case 0:
		for k := range 1 + d.IntN(3) {
			at, half := y+0.07*float64(k), r*d.between(0.8, 1.3)
			for x := -half; x < half; x += d.between(0.05, 0.09) {
				d.mark(ink, 1, box(x, at-0.018, x+d.between(0.02, 0.045), at+0.018))
			}
		}
	case 1:
		d.mark(ink, 1, oval(0, y, r, r*d.between(0.6, 1.2)))
	case 2:
		d.mark(ink, 1, d.blobAt(0, y, r*1.2, 0.5))
	case 3:
		d.mark(ink, 1, d.starAt(0, y, r*1.2))
	case 4:
		d.mark(ink, 1, box(-r, y-r*0.7, r, y+r))
	}
}

func (d *drawing) tShirt() {
	f := d.fabric(d, 0.35)
	t := d.trunk()
	t.sleeve, t.cuff, t.angle = d.span(0.13, 0.27), d.span(0.14, 0.19), d.span(28, 62)
	switch { // Sleeveless tops and crossed straps belong to the class.
	case d.chance(0.13):
		t.sleeve = 0
		t.shoulder, t.neck = d.span(0.15, 0.22), d.span(0.09, 0.13)
		t.neckDepth, t.armpit = d.span(0.12, 0.22), d.span(0.24, 0.32)
		t.chest *= 0.85
		t.waist, t.hem = t.waist*0.85, t.hem*0.9
	case d.chance(0.12): // Half sleeves.
		t.sleeve, t.angle = d.span(0.3, 0.4), d.span(50, 68)
	}
	d.wear(t, f)
	if d.chance(0.6) {
		d.collarBand(t, f, d.between(0.55, 1.25), d.between(0.015, 0.035))
	}
	if d.chance(0.4) {
		d.print(d.span(0.33, 0.5))
	}
	if d.chance(0.4) {
		d.seam(0.2, 0.012, path{{-t.hem, 0.96}, {t.hem, 0.96}})
	}
}

func (d *drawing) pullover() {
	f := d.fabric(d, 0.25)
	if d.chance(0.3) && !d.held {
		f.pattern = knit
		f.second = f.base.times(0.75)
	}
	t := d.trunk()
	d.longSleeves(t)
	t.chest, t.hem = t.chest*1.04, t.hem*d.span(0.9, 1.02)
	t.round = d.span(0, 0.015)
	high := d.chance(0.2)
	if high {
		t.neckDepth, t.vee = 0.03, false
	}
	d.wear(t, f)
	shade := d.between(0.65, 1.2)
	if high { // A rolled collar.
		up := d.span(0.05, 0.1)
		d.area(f, shade, from(t.neck*0.85, -up).line(t.neck*1.05, 0.03).curve(t.neck*0.5, 0.07, 0, 0.07).mirrored())
		d.seam(0.3, 0.012, path{{-t.neck, 0.035}, {0, 0.07}, {t.neck, 0.035}})
	} else {
		d.collarBand(t, f, shade, d.span(0.025, 0.05))
	}
	rib := d.span(0.04, 0.08)
	d.mark(f, shade, box(-t.hem-0.03, 1-rib, t.hem+0.03, 1.1))
	d.seam(0.3, 0.012, path{{-t.hem, 1 - rib}, {t.hem, 1 - rib}})
	_, end := t.arm()
	back := toward(t.angle).times(-0.05)
	cuff := path{end[0], end[1], end[1].plus(back), end[0].plus(back)}
	d.mark(f, shade, cuff)
	d.mark(f, shade, cuff.flipped())
	switch {
	case d.chance(0.2):
		d.print(d.span(0.35, 0.5))
	case d.chance(0.1): // A pouch, as hooded ones have.
		pouch := path{{-0.13, 0.9}, {-0.15, 0.78}, {-0.09, 0.64}, {0.09, 0.64}, {0.15, 0.78}, {0.13, 0.9}}
		d.seam(0.3, 0.014, append(pouch, pouch[0]))
	}
	if d.chance(0.12) { // A hood.
		d.area(f, 0.85, from(0, -0.11).curve(t.neck*1.5, -0.12, t.neck*1.25, 0.05).curve(t.neck*0.8, 0.11, 0, 0.13).mirrored())
		d.mark(f, 0.45, oval(0, 0, t.neck*0.7, 0.06))
	}
}

// buttons go down the front.
func (d *drawing) buttons(x, from, to float64) {
	n := 3 + d.IntN(6)
	strength := d.between(-0.5, 0.7)
	for i := range n {
		y := from + (to-from)*float64(i)/float64(n-1)
		d.seam(strength, 0.03, path{{x - 0.014, y}, {x + 0.014, y}})
	}
}

// collar has two points that lie on the chest.
func (d *drawing) collar(t *torso, f *fabric, shade, length float64) {
	tip := point{t.neck * d.span(0.6, 1.05), length}
	wing := from(0, t.neckDepth*0.9).line(tip.x, tip.y).line(t.neck*1.25, 0.03).line(t.neck*0.85, -0.03).curve(t.neck*0.4, -0.01, 0, t.neckDepth*0.4)
	d.area(f, shade, wing)
	d.area(f, shade*0.96, wing.flipped())
	edge := path{{0, t.neckDepth * 0.9}, tip, {t.neck * 1.25, 0.03}}
	d.seam(0.35, 0.014, edge)
	d.seam(0.35, 0.014, edge.flipped())
}

func (d *drawing) shirt() {
	f := d.fabric(d, 0.45)
	t := d.trunk()
	t.back, t.vee = true, true
	t.neck, t.neckDepth = d.span(0.08, 0.12), d.span(0.06, 0.12)
	t.round = d.span(0, 0.05)
	short := d.chance(0.25)
	if short {
		t.sleeve, t.cuff, t.angle = d.span(0.2, 0.32), d.span(0.13, 0.17), d.span(45, 66)
	} else {
		d.longSleeves(t)
		t.cuff = d.span(0.08, 0.11)
	}
	d.wear(t, f)
	if d.chance(0.85) {
		d.collar(t, f, d.between(0.85, 1.15), t.neckDepth+d.span(0.02, 0.07))
	} else {
		d.collarBand(t, f, d.between(0.8, 1.15), 0.03)
	}
	end := 1 + t.round
	if d.chance(0.2) {
		end = d.span(0.35, 0.5) // Open halfway.
	}
	strength := d.between(0.2, 0.5)
	d.seam(strength, 0.012, path{{-0.025, t.neckDepth}, {-0.025, end}})
	if d.chance(0.6) {
		d.seam(strength, 0.012, path{{0.025, t.neckDepth}, {0.025, end}})
	}
	d.buttons(0, t.neckDepth+0.04, end-0.08)
	for _, x := range []float64{-1, 1} {
		if d.chance(0.35) {
			at := x * t.chest * 0.5
			w, y := d.span(0.05, 0.075), d.span(0.3, 0.36)
			d.seam(0.3, 0.012, path{{at - w, y}, {at + w, y}, {at + w, y + 0.12}, {at, y + 0.14}, {at - w, y + 0.12}, {at - w, y}})
		}
	}
	if !short && d.chance(0.7) {
		_, e := t.arm()
		back := toward(t.angle).times(-0.07)
		cuff := path{e[0].plus(back), e[1].plus(back)}
		d.seam(0.35, 0.014, cuff)
		d.seam(0.35, 0.014, cuff.flipped())
	}
}

func (d *drawing) coat() {
	f := d.fabric(d, 0.15)
	t := d.trunk()
	t.back, t.vee = true, true
	t.shoulder, t.chest = d.span(0.23, 0.28), d.span(0.22, 0.27)
	t.armpit = d.span(0.25, 0.3)
	t.waist, t.hem = t.chest*d.span(0.82, 1), t.chest*d.span(0.95, 1.25)
	t.neck, t.neckDepth = d.span(0.07, 0.11), d.span(0.1, 0.3)
	d.longSleeves(t)
	t.sleeve, t.angle = d.span(0.6, 0.74), d.span(76, 86)
	d.wear(t, f)
	if d.chance(0.2) { // A lining shows between open fronts.
		w := d.span(0.02, 0.07)
		d.mark(f, d.between(0.25, 0.6), path{{-0.02, t.neckDepth}, {0.02, t.neckDepth}, {w, 1.1}, {-w, 1.1}})
	}
	x := 0.0
	switch {
	case d.chance(0.4): // Zip.
		d.seam(d.between(-0.5, 0.7), 0.02, path{{0, t.neckDepth}, {0, 1.05}})
	case d.chance(0.4): // Double-breasted.
		x = d.span(0.05, 0.08)
		d.seam(0.4, 0.016, path{{-x * 1.3, t.neckDepth}, {-x * 1.3, 1.05}})
		d.buttons(-x*0.6, t.neckDepth+0.05, 0.7)
		d.buttons(x, t.neckDepth+0.05, 0.7)
	default:
		d.seam(0.45, 0.016, path{{-0.02, t.neckDepth}, {-0.02, 1.05}})
		d.buttons(0.015, t.neckDepth+0.05, d.span(0.65, 0.85))
	}
	switch {
	case d.chance(0.2): // A hood lies open.
		d.area(f, 0.9, from(0, -0.1).curve(t.neck*1.8, -0.1, t.neck*1.4, 0.06).curve(t.neck, 0.12, 0, 0.13).mirrored())
		d.mark(f, 0.4, oval(0, 0.01, t.neck*0.8, 0.06))
	case d.chance(0.6):
		d.collar(t, f, d.between(0.8, 1.2), t.neckDepth*d.span(0.6, 0.9))
	default: // A standing collar.
		d.area(f, d.between(0.75, 1.1), from(t.neck*0.9, -d.span(0.03, 0.07)).line(t.neck*1.15, 0.05).line(0, t.neckDepth).mirrored())
	}
	if d.chance(0.35) {
		y := d.span(0.48, 0.56)
		d.mark(f, d.between(0.5, 0.9), box(-t.waist-0.02, y, t.waist+0.02, y+0.05))
		d.seam(0.4, 0.012, path{{-t.waist, y}, {t.waist, y}})
	}
	if d.chance(0.75) {
		y, w, slant := d.span(0.58, 0.72), d.span(0.04, 0.06), d.between(-0.05, 0.09)
		at := t.chest * 0.6
		pocket := path{{at - w, y}, {at + w, y + slant}}
		d.seam(0.45, 0.025, pocket)
		d.seam(0.45, 0.025, pocket.flipped())
	}
	if d.chance(0.2) { // Quilted.
		for y := 0.25; y < 1; y += d.between(0.07, 0.12) {
			d.seam(0.25, 0.015, path{{-0.28, y}, {0, y + 0.01}, {0.28, y}})
		}
	}
}

func (d *drawing) dress() {
	f := d.fabric(d, 0.3)
	t := d.trunk()
	t.shoulder, t.neck = d.span(0.13, 0.19), d.span(0.07, 0.11)
	t.slope, t.neckDepth = d.span(0.015, 0.04), d.span(0.05, 0.16)
	t.armpit, t.chest = d.span(0.18, 0.24), d.span(0.14, 0.19)
	waist := d.span(0.1, 0.16)
	t.waist = waist
	switch {
	case d.chance(0.3):
		t.sleeve, t.cuff, t.angle = d.span(0.08, 0.18), d.span(0.09, 0.12), d.span(35, 65)
	case d.chance(0.25):
		t.sleeve, t.cuff, t.angle = d.span(0.35, 0.5), d.span(0.06, 0.09), d.span(68, 83)
	}
	hem := d.span(0.13, 0.36)
	at := d.span(0.36, 0.5) // Of the waist.
	half := from(0, t.neckDepth)
	if t.vee {
		half = half.line(t.neck, 0)
	} else {
		half = half.curve(t.neck*0.9, t.neckDepth, t.neck, 0)
	}
	half = half.line(t.shoulder, t.slope).curve(t.chest-0.035, (t.slope+t.armpit)/2, t.chest, t.armpit)
	half = half.curve(waist, at*0.85, waist, at)
	if d.chance(0.5) {
		half = half.curve(waist+0.06, at+0.1, (waist+hem)/2+0.03, (at+1)/2)
	}
	half = half.line(hem, 1).curve(hem*0.5, 1+t.round, 0, 1+t.round)
	if d.chance(0.2) { // Straps instead of shoulders.
		t.sleeve = 0
		strap := from(t.chest*0.7, t.armpit).curve(t.chest*0.7, 0.08, t.neck, 0)
		width := d.span(0.015, 0.04)
		d.band(f, 0.9, width, strap)
		d.band(f, 0.9, width, strap.flipped())
		top := t.armpit * d.span(0.75, 0.95)
		half = from(0, top+d.between(0, 0.03)).line(t.chest, top).curve(waist, at*0.85, waist, at).line(hem, 1).curve(hem*0.5, 1+t.round, 0, 1+t.round)
		t.back = false
	}
	if t.sleeve > 0 {
		sleeve, _ := t.arm()
		d.area(f, d.between(0.8, 1), sleeve)
		d.area(f, d.between(0.8, 1), sleeve.flipped())
	}
	if t.back {
		d.area(f, 0.5, from(0, t.neckDepth*0.2).line(t.neck, 0).curve(t.neck*0.9, t.neckDepth, 0, t.neckDepth*1.05).mirrored())
	}
	d.area(f, 1, half.mirrored())
	if d.chance(0.3) { // A skirt of another cloth.
		d.mark(d.fabric(d, 0.4), 1, box(-0.5, at, 0.5, 1.1))
	}
	switch {
	case d.chance(0.3):
		belt := d.span(0.02, 0.05)
		d.mark(f, d.between(0.3, 0.8), box(-waist-0.02, at-belt, waist+0.02, at+belt*0.3))
	case d.chance(0.5):
		d.seam(0.35, 0.014, path{{-waist, at}, {waist, at}})
	}
	if d.chance(0.6) { // Pleats.
		n := 1 + d.IntN(5)
		for i := range n {
			x := (float64(i)+d.between(0.2, 0.8))/float64(n)*2 - 1
			d.seam(d.between(-0.2, 0.35), 0.02, path{{x * waist * 0.9, at + 0.03}, {x * hem * 0.95, 1}})
		}
	}
	d.turn, d.slant = 0.015, 0.01
}

func (d *drawing) trousers() {
	f := d.fabric(d, 0.12)
	waist, hip := d.span(0.14, 0.19), d.span(0.17, 0.22)
	crotch := d.span(0.26, 0.36)
	knee, ankle := d.span(0.075, 0.12), d.span(0.055, 0.12)
	spread := d.span(0.1, 0.17) // Middle of the ankle.
	knees := d.span(0.58, 0.66)
	middle := (hip*0.5 + spread) / 2
	leg := from(0, 0.015).line(waist, 0).curve(hip, crotch*0.6, hip, crotch).
		curve(middle+knee, knees*0.8, middle+knee, knees).line(spread+ankle, 1).line(spread-ankle, 1).
		line(max(middle-knee, 0.01), knees).curve(max(middle-knee, 0.008), (knees+crotch)/2, 0, crotch)
	d.area(f, 1, leg)
	d.area(f, d.between(0.9, 1.05), leg.flipped())
	d.seam(d.between(0.2, 0.6), 0.016, path{{0, 0.03}, {0, crotch}})
	band := d.span(0.03, 0.06)
	d.mark(f, d.between(0.65, 1.2), box(-0.25, -0.02, 0.25, band))
	d.seam(0.3, 0.012, path{{-waist, band}, {waist, band}})
	if d.chance(0.7) {
		pocket := from(waist*0.55, band).curve(waist*0.6, band+0.08, hip*0.98, band+0.11)
		d.seam(0.4, 0.014, pocket)
		d.seam(0.4, 0.014, pocket.flipped())
	}
	if d.chance(0.5) { // Creases.
		crease := path{{waist * 0.5, 0.15}, {middle, knees}, {spread, 0.98}}
		strength := d.between(-0.35, 0.25)
		d.seam(strength, 0.03, crease)
		d.seam(strength, 0.03, crease.flipped())
	}
	if d.chance(0.3) { // Worn at the knees.
		d.seam(-0.3, 0.09, path{{middle, knees - 0.2}, {middle, knees}})
		d.seam(-0.3, 0.09, path{{-middle, knees - 0.2}, {-middle, knees}})
	}
	if d.chance(0.3) {
		y := d.span(0.93, 0.97)
		d.seam(0.3, 0.012, path{{spread - ankle, y}, {spread + ankle, y}})
		d.seam(0.3, 0.012, path{{-spread - ankle, y}, {ankle - spread, y}})
	}
	d.folds.ahead = point{d.between(1, 3), d.between(1, 4)}
	d.turn, d.slant = 0.012, 0.008
}
