package lists

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"p2pcdn/common/content"
)

func hashOf(n byte) content.FullHash { return content.FullHash{31: n} }

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list")
	write(t, path, text)
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// permitted returns which of the contents 1 to 3 are.
func permitted(l *Lists) string {
	var out []string
	for n := byte(1); n <= 3; n++ {
		if l.Permits(hashOf(n)) {
			out = append(out, string('0'+rune(n)))
		}
	}
	return strings.Join(out, "")
}

func TestWhatIsPermitted(t *testing.T) {
	one, two := hashOf(1).String(), hashOf(2).String()
	for _, c := range []struct{ allow, deny, want string }{
		{"", "", "123"},
		{one + "\n" + two + "\n", "", "12"},
		{"", two, "13"},
		{one + "\n" + two, "# a note\n\n  " + two + "   # and why\r\n", "1"},
		{"# nothing is allowed\n", "", ""},
	} {
		var paths [2]string
		for i, text := range []string{c.allow, c.deny} {
			if text != "" {
				paths[i] = file(t, text)
			}
		}
		lists, err := Read(paths[0], paths[1])
		if err != nil {
			t.Fatal(err)
		}
		if got := permitted(lists); got != c.want {
			t.Errorf("allow %q, deny %q: %q instead of %q", c.allow, c.deny, got, c.want)
		}
		if lists.Any() != (c.allow+c.deny != "") {
			t.Errorf("allow %q, deny %q: any is %v", c.allow, c.deny, lists.Any())
		}
	}
}

func TestReload(t *testing.T) {
	path := file(t, hashOf(1).String())
	lists, err := Read("", path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, hashOf(1).String()+"\n"+hashOf(3).String())
	if got := permitted(lists); got != "23" {
		t.Errorf("before it is read again: %q", got)
	}
	if err := lists.Reload(); err != nil || permitted(lists) != "2" {
		t.Errorf("afterwards: %q, %v", permitted(lists), err)
	}
	if allowed, denied := lists.Sizes(); allowed != 0 || denied != 2 {
		t.Errorf("%d allowed, %d denied", allowed, denied)
	}
	// A file that is wrong, or gone, changes nothing.
	for _, spoil := range []func(){func() { write(t, path, "what?") }, func() { _ = os.Remove(path) }} {
		spoil()
		if err := lists.Reload(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("the error is %v", err)
		}
		if got := permitted(lists); got != "2" {
			t.Errorf("a reload that failed changed it to %q", got)
		}
	}
}

func TestWrongFiles(t *testing.T) {
	long := strings.Repeat("a", maxLine+1)
	for _, c := range []struct{ text, want string }{
		{hashOf(1).String() + "\nnonsense", "line 2"},
		{strings.ToUpper(content.FullHash{0: 0xab}.String()), "line 1"},
		{long, "too long"},
	} {
		if _, err := Read(file(t, c.text), ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.20q: %v", c.text, err)
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none"), ""); err == nil {
		t.Error("a list that is not there is none")
	}
}

func FuzzRead(f *testing.F) {
	f.Add("")
	f.Add(hashOf(1).String() + " # note\n\n#\n")
	f.Add("nonsense\n")
	f.Fuzz(func(t *testing.T, text string) {
		lists, err := Read(file(t, text), "")
		if err != nil {
			return
		}
		allowed, _ := lists.Sizes()
		if lines := strings.Count(text, "\n") + 1; allowed > lines {
			t.Errorf("%d contents in %d lines", allowed, lines)
		}
	})
}
