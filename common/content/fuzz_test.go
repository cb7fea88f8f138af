package content_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"unicode/utf8"

	"p2pcdn/common/content"
)

// seeded fails where the committed seeds of a fuzz test are missing: without
// them a plain test run would show nothing.
func seeded(f *testing.F) {
	f.Helper()
	files, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name()))
	if err != nil || len(files) == 0 {
		f.Fatalf("%s has no committed seeds: %v", f.Name(), err)
	}
}

// knownCode holds a failure to the classes that the function can give.
func knownCode(t *testing.T, input any, err error, known ...content.Code) {
	t.Helper()
	if code := codeOf(t, err); !slices.Contains(known, code) {
		t.Fatalf("%q: %v", input, err)
	}
}

func FuzzParseInfo(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		info, err := content.ParseInfo(text)
		if err != nil {
			knownCode(t, text, err, content.CodeBadFullHash, content.CodeBadPieceHash, content.CodeBadDictionary,
				content.CodeBadFileName, content.CodeBadContentType, content.CodeBadTotalLength, content.CodeBadPieceLength,
				content.CodeTooManyPieces, content.CodeWrongPieceCount, content.CodeContradiction, content.CodeDictionaryTooBig)
			return
		}
		again, err := content.ParseInfo(info.Encode())
		if err != nil || !reflect.DeepEqual(again, info) {
			t.Fatalf("%q: %+v was encoded and parsed as %+v, %v", text, info, again, err)
		}
		if err := info.Validate(); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if info.HasPieceHashes() {
			info.PieceHash(info.Geometry().Pieces() - 1)
		}
		if link, err := content.ParseLink(info.Link().String()); err != nil || link.Info().FileName != info.FileName {
			t.Fatalf("%q: its link %s: %v", text, info.Link(), err)
		}
	})
}

func FuzzParseLink(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, text string) {
		link, err := content.ParseLink(text)
		if err != nil {
			knownCode(t, text, err, content.CodeBadLink, content.CodeLinkWithoutLen, content.CodeBadMediatorURL, content.CodeBadFullHash,
				content.CodeBadTotalLength, content.CodeBadPieceLength, content.CodeTooManyPieces, content.CodeBadFileName, content.CodeBadContentType)
			return
		}
		again, err := content.ParseLink(link.String())
		if err != nil || !reflect.DeepEqual(again, link) || again.String() != link.String() {
			t.Fatalf("%q: %+v was printed and parsed as %+v, %v", text, link, again, err)
		}
		if !utf8.ValidString(text) || link.Info().Validate() != nil {
			t.Fatalf("%q: %+v", text, link)
		}
		if info, err := content.ParseInfo(link.Info().Encode()); err != nil || !reflect.DeepEqual(info, link.Info()) {
			t.Fatalf("%q: as a dictionary %+v, %v", text, info, err)
		}
	})
}
