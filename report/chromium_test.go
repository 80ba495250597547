package report

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// probe is what the page that frames a report finds out about it.
type probe struct {
	Width, Scroll    int      // Of the report's viewport and of its content.
	Images, Broken   int      //
	Mute             int      // Pictures and drawings without a text for those who do not see them.
	Resources        []string // Loads of the report, pictures inside the file aside.
	Background, Font string   // Computed: the style sheet was let in.
	Contrast         float64  // Smallest ratio of text to its background.
	Worst            string   // Which text that is.
}

// harness frames a report at a width and writes a probe into its own body.
const harness = `<!DOCTYPE html><meta charset="utf-8"><style>body{margin:0}iframe{border:0;display:block}</style>
<iframe id="f" src="%s" width="%d" height="%d"></iframe><script>
onload = () => {
  const w = document.getElementById("f").contentWindow, d = w.document;
  const images = [...d.images];
  const parse = c => (c.match(/[\d.]+/g) || []).map(Number);
  const shine = c => { const f = c.slice(0,3).map(v => (v/=255) <= .04045 ? v/12.92 : ((v+.055)/1.055)**2.4); return .2126*f[0]+.7152*f[1]+.0722*f[2]; };
  const ground = e => { for (; e; e = e.parentElement) { const c = parse(w.getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) return c; } return [255,255,255]; };
  let least = 99, worst = "";
  for (const e of d.querySelectorAll("body *:not(svg):not(svg *)")) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const a = shine(parse(w.getComputedStyle(e).color)), b = shine(ground(e));
    const r = (Math.max(a,b)+.05)/(Math.min(a,b)+.05);
    if (r < least) { least = r; worst = e.tagName + "." + e.className + ": " + e.textContent.slice(0, 40); }
  }
  const p = document.createElement("pre"); p.id = "probe";
  p.textContent = JSON.stringify({
    Width: d.documentElement.clientWidth, Scroll: d.documentElement.scrollWidth,
    Images: images.length, Broken: images.filter(i => !i.complete || !i.naturalWidth).length,
    Mute: [...d.querySelectorAll("img:not([alt]), img[alt=''], svg:not([aria-label]):not([aria-hidden=true])")].length,
    Resources: w.performance.getEntriesByType("resource").map(r => r.name).filter(n => !n.startsWith("data:")),
    Background: w.getComputedStyle(d.body).backgroundColor, Font: w.getComputedStyle(d.querySelector("h1")).fontFamily,
    Contrast: least, Worst: worst,
  }).replace(/</g, "\\u003c");
  document.body.append(p);
};
</script>`

// TestChromium opens the report in a real browser, as it stands in the path: the
// private edition, which has everything, on a phone. With SCUMBLE_CHROMIUM=1 it
// opens both editions, on a phone and on a desktop, in light and dark, and prints
// them; SCUMBLE_CHROMIUM_OUT then names a folder for screenshots to look at.
func TestChromium(t *testing.T) {
	all := os.Getenv("SCUMBLE_CHROMIUM") != ""
	browser, err := exec.LookPath("chromium")
	if err != nil {
		if all {
			t.Fatalf("SCUMBLE_CHROMIUM is set and there is no chromium: %v", err)
		}
		t.Skipf("there is no browser to look with (%v); Debian's package chromium has one", err)
	}
	shots := os.Getenv("SCUMBLE_CHROMIUM_OUT")
	if shots == "" {
		shots = t.TempDir()
	}
	dir := t.TempDir()
	run, broken := sampleRun(t), sampleRun(t)
	broken.Claim.Insecure = true
	broken.Classes[3] = `<script>alert(1)</script> & a very long class name`
	for name, write := range map[string]func(string) error{
		"release": func(d string) error { return WriteRelease(d, run) },
		"private": func(d string) error { return WritePrivate(d, run) },
		"broken":  func(d string) error { return WriteRelease(d, broken) },
	} {
		if err := write(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		for _, width := range []int{390, 1280} {
			for scheme, setting := range map[string]string{"dark": "0", "light": "1"} {
				if !all && (name != "private" || width != 390 || scheme != "light") {
					continue
				}
				t.Run(fmt.Sprintf("%s-%d-%s", name, width, scheme), func(t *testing.T) {
					height := map[int]int{390: 9500, 1280: 5600}[width]
					frame := filepath.Join(dir, t.Name()[len("TestChromium/"):]+".html")
					if err := os.WriteFile(frame, fmt.Appendf(nil, harness, name+"/report.html", width, height), 0o600); err != nil {
						t.Fatal(err)
					}
					args := []string{"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files",
						"--disable-background-networking", "--disable-component-update", "--no-first-run", "--enable-logging=stderr",
						"--user-data-dir=" + filepath.Join(dir, "profile"), "--blink-settings=preferredColorScheme=" + setting,
						fmt.Sprintf("--window-size=%d,%d", max(width, 600), height)}
					shot := filepath.Join(shots, filepath.Base(frame)+".png")
					out, talk := chromium(t, browser, append(args, "--dump-dom", "file://"+frame))
					if all {
						chromium(t, browser, append(args, "--screenshot="+shot, "file://"+frame))
					}
					for _, line := range strings.Split(talk, "\n") {
						if strings.Contains(line, "CONSOLE") {
							t.Errorf("the console says: %s", line)
						}
					}
					m := regexp.MustCompile(`<pre id="probe">(.*?)</pre>`).FindStringSubmatch(out)
					if m == nil {
						t.Fatalf("the page gave no probe; it is\n%.2000s", out)
					}
					var p probe
					text := strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(m[1])
					if err := json.Unmarshal([]byte(text), &p); err != nil {
						t.Fatal(err)
					}
					t.Logf("%+v", p)
					if p.Width != width || p.Scroll > p.Width {
						t.Errorf("viewport is %d and content %d wide, want %d and no more", p.Width, p.Scroll, width)
					}
					if p.Images != 3 || p.Broken != 0 || len(p.Resources) != 0 {
						t.Errorf("%d images, %d broken, loads %q; want 3, 0 and none", p.Images, p.Broken, p.Resources)
					}
					if p.Mute != 0 {
						t.Errorf("%d pictures have no alternative text", p.Mute)
					}
					if want := map[string]string{"dark": "rgb(20, 23, 26)", "light": "rgb(250, 248, 244)"}[scheme]; p.Background != want {
						t.Errorf("background is %s, want %s: is the style sheet applied?", p.Background, want)
					}
					if p.Contrast < 4.5 { // WCAG 2.1 level AA.
						t.Errorf("contrast of %q is %.2f, want at least 4.5", p.Worst, p.Contrast)
					}
				})
			}
		}
	}
	if !all {
		return
	}
	for _, name := range []string{"release", "private"} {
		printed := filepath.Join(shots, name+".pdf")
		chromium(t, browser, []string{"--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer", "--user-data-dir=" + filepath.Join(dir, "profile"),
			"--print-to-pdf=" + printed, "file://" + filepath.Join(dir, name, "report.html")})
		if data, err := os.ReadFile(printed); err != nil || !strings.HasPrefix(string(data), "%PDF-") {
			t.Errorf("%s edition does not print: %v", name, err)
		}
	}
}

// chromium runs the browser once and returns what it wrote.
func chromium(t *testing.T, browser string, args []string) (out, talk string) {
	t.Helper()
	var o, e strings.Builder
	c := exec.Command(browser, args...)
	c.Stdout, c.Stderr = &o, &e
	c.WaitDelay = time.Second
	timer := time.AfterFunc(time.Minute, func() { c.Process.Kill() })
	defer timer.Stop()
	if err := c.Run(); err != nil {
		t.Fatalf("chromium: %v\n%s", err, e.String())
	}
	return o.String(), e.String()
}
