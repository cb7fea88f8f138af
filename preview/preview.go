// Package preview holds the pages on which a person tries the network out in a
// browser, ready to be served:
//
//	index.html            both pages below, side by side
//	seeder_preview.html   share a file
//	leecher_preview.html  fetch a file
//	dist/cdn.mjs, cdn.js  the browser peer, as a module and as a plain script
//	dist/sw.js            the service worker that streams content to media elements
//	sw.js                 the same for the pages of this folder: it answers beside itself and below
//
// A mediator serves them under /preview/; any other web server can serve this
// folder too, and then the pages are told where a mediator is:
// seeder_preview.html?mediator=ws://host:port/mediation.
//
// The scripts in dist are built from src and peer/browser by ./compile.sh, and
// embedded when Go compiles. Where that was not done, FS shows a page that says
// so in place of pages that cannot work.
package preview

import (
	"embed"
	"io/fs"
)

//go:embed index.html seeder_preview.html leecher_preview.html unbuilt.html preview.css icon.svg sw.js dist
var files embed.FS

//go:embed home.html
var home []byte

// Home returns the page that says what a mediator is, links the previews, and shows
// how this mediator is right now: its script, dist/home.js, asks /status.json again
// and again. Without the script the page lacks that part alone. It names everything
// by its address on a mediator: /preview/….
func Home() []byte { return append([]byte(nil), home...) }

// FS returns the pages and all that they load, index.html at the top.
func FS() fs.FS { return pages(files) }

// built reports whether all scripts are there.
func built(files fs.FS) bool {
	for _, script := range []string{"cdn.mjs", "cdn.js", "sw.js", "home.js", "index.js", "seeder.js", "leecher.js"} {
		if _, err := fs.Stat(files, "dist/"+script); err != nil {
			return false
		}
	}
	return true
}

func pages(files fs.FS) fs.FS {
	if built(files) {
		return files
	}
	return unbuilt{files}
}

// unbuilt is the folder without its scripts: every page is unbuilt.html.
type unbuilt struct{ fs.FS }

// Open implements [fs.FS].
func (u unbuilt) Open(name string) (fs.File, error) {
	switch name {
	case "index.html", "seeder_preview.html", "leecher_preview.html":
		name = "unbuilt.html"
	}
	return u.FS.Open(name)
}
