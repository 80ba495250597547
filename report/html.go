package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"strings"
)

var (
	//go:embed report.html.tmpl
	htmlSource string
	//go:embed report.css
	cssSource string
)

// page is a view with the style sheet and the policy that allows it.
type page struct {
	*view
	CSS    template.CSS
	Policy string
}

// html renders the view as one file.
//
// Its Content-Security-Policy forbids all loads but pictures inside the file,
// and all styles but the sheet with this hash: a style or a script that some
// name smuggled in would not run even if escaping failed.
func (v *view) html() ([]byte, error) {
	t, err := template.New("report").Parse(htmlSource)
	if err != nil {
		return nil, err
	}
	css := strings.TrimSpace(cssSource)
	digest := sha256.Sum256([]byte(css))
	p := page{
		view: v,
		CSS:  template.CSS(css), // Our own file.
		Policy: fmt.Sprintf("default-src 'none'; img-src data:; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'",
			base64.StdEncoding.EncodeToString(digest[:])),
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
