package preview

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// page returns what a web server answers for the page.
func page(t *testing.T, files fs.FS, path string) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	http.FileServerFS(files).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	if recorder.Code != http.StatusOK {
		t.Fatalf("%s: status %d", path, recorder.Code)
	}
	return recorder.Body.String()
}

// tree is the folder as it is embedded, with dist holding these files alone.
func tree(t *testing.T, dist ...string) fs.FS {
	t.Helper()
	tree := fstest.MapFS{}
	for _, name := range []string{"index.html", "seeder_preview.html", "leecher_preview.html", "unbuilt.html", "preview.css", "icon.svg", "sw.js"} {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		tree[name] = &fstest.MapFile{Data: data}
	}
	for _, name := range dist {
		tree["dist/"+name] = &fstest.MapFile{}
	}
	return tree
}

func TestPagesSayThatTheyAreNotBuilt(t *testing.T) {
	for _, dist := range [][]string{{"placeholder.txt"}, {"placeholder.txt", "cdn.mjs", "cdn.js", "sw.js", "home.js", "index.js", "seeder.js"}, {"placeholder.txt", "cdn.mjs", "cdn.js", "sw.js", "index.js", "seeder.js", "leecher.js"}} {
		files := pages(tree(t, dist...))
		for _, path := range []string{"/", "/seeder_preview.html", "/leecher_preview.html"} {
			if text := page(t, files, path); !strings.Contains(text, "<title>The preview pages are not built") {
				t.Errorf("with %q in dist, %s does not say that the pages are not built:\n%s", dist, path, text)
			}
		}
		page(t, files, "/preview.css")
	}
}

// The ids are a contract: programs drive the pages by them.
func TestPagesHaveTheirElements(t *testing.T) {
	files := pages(tree(t, "cdn.mjs", "cdn.js", "sw.js", "home.js", "index.js", "seeder.js", "leecher.js"))
	for path, ids := range map[string][]string{
		"/seeder_preview.html":  {"file-input", "share-link", "info-dictionary", "status"},
		"/leecher_preview.html": {"info-dictionary", "start", "progress", "save", "status"},
	} {
		text := page(t, files, path)
		for _, id := range ids {
			if n := strings.Count(text, `id="`+id+`"`); n != 1 {
				t.Errorf("%s has %d elements with the id %s", path, n, id)
			}
		}
		if !strings.Contains(text, `data-state="idle"`) {
			t.Errorf("%s does not begin as idle", path)
		}
	}
	index := page(t, files, "/")
	for _, name := range []string{"seeder_preview.html", "leecher_preview.html"} {
		if !strings.Contains(index, name) {
			t.Errorf("the index does not show %s", name)
		}
	}
}

// The pages work under a strict Content-Security-Policy, and load nothing from
// elsewhere.
func TestPagesAreStrict(t *testing.T) {
	inline := regexp.MustCompile(`<style|\sstyle=|\son[a-z]+=|<script>|(src|href)="(https?:)?//`)
	for _, name := range []string{"index.html", "seeder_preview.html", "leecher_preview.html", "unbuilt.html"} {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		if found := inline.Find(text); found != nil {
			t.Errorf("%s has %q", name, found)
		}
		if !strings.Contains(string(text), `"Content-Security-Policy" content="default-src 'none';`) {
			t.Errorf("%s has no policy", name)
		}
	}
	if found := inline.Find(Home()); found != nil {
		t.Errorf("home.html has %q", found)
	}
}

// What the mediator's own page may load and ask is the mediator's alone, and
// without its script it does not promise what it cannot show.
func TestHomeIsLive(t *testing.T) {
	text := string(Home())
	for _, part := range []string{
		`content="default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"`,
		`<script type="module" src="/preview/dist/home.js"></script>`,
		`<section class="card" id="live" aria-labelledby="live-title" data-state="loading" hidden>`,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the home page has no %s", part)
		}
	}
	for _, id := range []string{
		"live", "live-state", "live-words", "network-picture", "live-peers", "live-messages", "live-refusals",
		"live-contents", "live-searches", "live-records", "live-mediators", "mediator-rows",
	} {
		if n := strings.Count(text, `id="`+id+`"`); n != 1 {
			t.Errorf("the home page has %d elements with the id %s", n, id)
		}
	}
}

func TestHomeLinksThePages(t *testing.T) {
	for _, address := range []string{"/preview/", "/preview/seeder_preview.html", "/preview/leecher_preview.html", "/id", "/healthz", "/status.json"} {
		if !strings.Contains(string(Home()), `href="`+address+`"`) {
			t.Errorf("the home page does not link %s", address)
		}
	}
}
