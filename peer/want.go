package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"p2pcdn/common/content"
	"p2pcdn/common/mediation"
)

// standard is what stands for standard input, and for standard output, on the command line.
const standard = "-"

// want finds out what is to be fetched and where to, before anything is begun.
func (g *getting) want(whats []string) error {
	if g.timeout < 0 {
		return wrongUsage("--timeout must not be negative")
	}
	if len(whats) > 1 {
		if err := g.wantSeveral(whats); err != nil {
			return err
		}
	}
	var mediators []string
	places := make(map[string]string) // what goes there
	for _, what := range whats {
		info, fromLink, err := g.describe(what)
		if err != nil {
			return err
		}
		d := &download{info: info, path: g.path(info)}
		if other, taken := places[d.path]; taken {
			return wrongUsage("%s and %s would both be written to %s", other, what, d.path)
		}
		places[d.path] = what
		for _, mediator := range fromLink {
			if !slices.Contains(mediators, mediator) {
				mediators = append(mediators, mediator)
			}
		}
		g.downloads = append(g.downloads, d)
	}
	g.urls = g.mediators.or(mediators)
	return nil
}

// wantSeveral checks what holds for more than one content.
func (g *getting) wantSeveral(whats []string) error {
	if g.output == standard {
		return wrongUsage("only one content can be written to standard output")
	}
	if first := slices.Index(whats, standard); first >= 0 && slices.Contains(whats[first+1:], standard) {
		return wrongUsage("standard input can be read only once")
	}
	if g.output == "" {
		return nil
	}
	if found, err := os.Stat(g.output); err != nil || !found.IsDir() {
		return wrongUsage("with more than one content, --output must name a folder that is there")
	}
	return nil
}

// describe reads what is to be fetched, and the mediators that a link names.
func (g *getting) describe(what string) (content.Info, []string, error) {
	text, isFile := []byte(what), false
	switch {
	case what == standard:
		var err error
		if text, err = io.ReadAll(io.LimitReader(g.w.stdin, content.MaxDictionarySize+1)); err != nil {
			return content.Info{}, nil, fmt.Errorf("reading standard input: %w", err)
		}
	case !looksLikeLink(what):
		var err error
		if text, err = readFile(what); err != nil {
			return content.Info{}, nil, err
		}
		isFile = true
	}
	if trimmed := bytes.TrimSpace(text); bytes.HasPrefix(trimmed, []byte("{")) {
		info, err := content.ParseInfo(text)
		if err != nil {
			return content.Info{}, nil, fmt.Errorf("%s: %w", what, err)
		}
		return info, nil, nil
	}
	link, err := content.ParseLink(string(text))
	switch {
	case err == nil && len(link.Mediators) == 0:
		return link.Info(), pageMediator(string(text)), nil
	case err == nil:
		return link.Info(), link.Mediators, nil
	case isFile:
		return content.Info{}, nil, fmt.Errorf("%s holds neither an info dictionary nor a link: %w", what, err)
	}
	return content.Info{}, nil, usageError{err}
}

// pageMediator returns the mediator that serves the preview page that a link opens,
// as a browser that opens it would use; none for other links.
func pageMediator(link string) []string {
	page, err := url.Parse(strings.TrimSpace(link))
	if err != nil || page.Host == "" || !strings.Contains(page.Path, "/preview/") {
		return nil
	}
	schemes := map[string]string{"http": "ws", "https": "wss"}
	mediator := schemes[page.Scheme] + "://" + page.Host + mediation.Path
	if content.CheckMediatorURL(mediator) != nil {
		return nil
	}
	return []string{mediator}
}

// looksLikeLink tells a link from the name of a file.
func looksLikeLink(text string) bool {
	if strings.HasPrefix(text, content.Scheme+":") || strings.Contains(text, "://") {
		return true
	}
	hash, _, _ := strings.Cut(text, "?")
	_, err := content.ParseFullHash(hash)
	return err == nil
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s is no link, and there is no such file", path)
		}
		return nil, fmt.Errorf("reading the info dictionary: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, content.MaxDictionarySize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the info dictionary: %w", err)
	}
	return text, nil
}

// path is where the file goes; [standard] for standard output.
func (g *getting) path(info content.Info) string {
	name := info.FileName
	if name == "" {
		name = info.FullHash.String()
	}
	switch g.output {
	case "":
		return name
	case standard:
		return standard
	}
	if found, err := os.Stat(g.output); err == nil && found.IsDir() {
		return filepath.Join(g.output, name)
	}
	return g.output
}
