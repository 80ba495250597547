package report

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"image/png"
)

// maxPixels bounds the pictures that are decoded.
const maxPixels = 64 << 20

// cleanPicture is a picture that holds pixels and nothing else.
type cleanPicture struct {
	png           []byte
	width, height int
}

// clean decodes the picture and encodes it again: texts, times, EXIF and bytes
// after the end do not survive.
func (p *Picture) clean() (*cleanPicture, error) {
	if p.Alt == "" {
		return nil, errors.New("picture has no alt text, want a sentence that says what it shows")
	}
	config, err := png.DecodeConfig(bytes.NewReader(p.PNG))
	if err != nil {
		return nil, fmt.Errorf("picture %q: %w", p.Alt, err)
	}
	if config.Width*config.Height > maxPixels {
		return nil, fmt.Errorf("picture %q has %d × %d pixels, want at most %d in all", p.Alt, config.Width, config.Height, maxPixels)
	}
	img, err := png.Decode(bytes.NewReader(p.PNG))
	if err != nil {
		return nil, fmt.Errorf("picture %q: %w", p.Alt, err)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, fmt.Errorf("picture %q: %w", p.Alt, err)
	}
	return &cleanPicture{png: b.Bytes(), width: config.Width, height: config.Height}, nil
}

// sheet is a picture as the HTML shows it.
type sheet struct {
	Title         string
	URI           template.URL // data:image/png;base64,…
	Alt, Caption  string
	Width, Height int // Shown, in CSS pixels, at most.
	RowLabels     []string
	Uncovered     bool
	Coverage      string
}

// sheetWidth is how wide a small picture is enlarged to, in whole multiples.
const sheetWidth = 560

func newSheet(title string, p *Picture) (*sheet, error) {
	if p == nil {
		return nil, nil
	}
	c, err := p.clean()
	if err != nil {
		return nil, err
	}
	times := max(1, sheetWidth/c.width)
	return &sheet{
		Title: title,
		// The bytes come from our own encoder, so the URL is safe.
		URI:       template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(c.png)),
		Alt:       p.Alt,
		Caption:   p.Caption,
		Width:     c.width * times,
		Height:    c.height * times,
		RowLabels: p.RowLabels,
		Uncovered: !p.Covered.Releasable(),
		Coverage:  p.Covered.words(),
	}, nil
}
