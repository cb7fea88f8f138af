package content_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"p2pcdn/common/content"
)

// randomInfo is a valid dictionary with a file name of any characters.
func randomInfo(random *rand.Rand) content.Info {
	info := content.Info{
		TotalLength: random.Int64N(1 << random.IntN(43)),
		FullHash:    content.FullHash(randomHashes(random, 1)[0]),
		ContentType: []string{"", "image/svg+xml", "text/plain; charset=\"a&b=c%\""}[random.IntN(3)],
	}
	info.PieceLength = content.DefaultPieceLength(info.TotalLength) << random.IntN(2)
	info.PieceLength = min(info.PieceLength, content.MaxPieceLength)
	for range random.IntN(40) {
		char := rune(random.IntN(1 << (5 + random.IntN(16))))
		if !strings.ContainsRune(`/\`, char) && char >= 0x20 && (char < 0x7f || char > 0x9f) && (char < 0xd800 || char > 0xdfff) && char <= 0x10ffff {
			info.FileName += string(char)
		}
	}
	if strings.Trim(info.FileName, ".") == "" {
		info.FileName = ""
	}
	return info
}

func TestLinkPrintedAndParsed(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	mediators := []string{"ws://localhost:8080/mediation", "wss://example.org/a?b=c&d=%20", "ws://[::1]:1/"}
	for range 2000 {
		info := randomInfo(random)
		link := info.Link(mediators[:random.IntN(4)]...)
		if len(link.Mediators) == 0 {
			link.Mediators = nil
		}
		for _, text := range []string{link.String(), link.Fragment(), "https://example.org/leecher.html?x=y#" + link.Fragment(), " " + link.String() + "\r\n"} {
			again, err := content.ParseLink(text)
			if err != nil || !reflect.DeepEqual(again, link) || again.String() != link.String() || !reflect.DeepEqual(again.Info(), info) {
				t.Fatalf("%s: %+v, %v instead of %+v", text, again, err, link)
			}
		}
		// Any reader of URLs understands it alike.
		parsed, err := url.Parse(link.String())
		if err != nil || parsed.Scheme != content.Scheme || parsed.Query().Get("dn") != info.FileName || len(parsed.Query()["m"]) != len(link.Mediators) {
			t.Fatalf("%s: %+v, %v", link, parsed, err)
		}
	}
}

func TestLinkNamesNoMoreMediatorsThanItHolds(t *testing.T) {
	link := content.Info{PieceLength: 64 << 10}.Link(strings.Split(strings.Repeat("ws://a ", 20), " ")[:20]...)
	again, err := content.ParseLink(link.String())
	if err != nil || len(again.Mediators) != 16 {
		t.Errorf("%d mediators, %v", len(again.Mediators), err)
	}
}

func TestInfoEncodedAndParsed(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	for range 100 {
		info := randomInfo(random)
		if pieces := info.Geometry().Pieces(); pieces > 1 && pieces < 1000 {
			info.PieceHashes = randomHashes(random, pieces)
			info.FullHash = info.Geometry().Root(info.PieceHashes)
		}
		again, err := content.ParseInfo(info.Encode())
		if err != nil || !reflect.DeepEqual(again, info) {
			t.Fatalf("%s: %+v, %v", info.Encode(), again, err)
		}
	}
}

func TestInfoWithMostPiecesFits(t *testing.T) {
	info := content.Info{TotalLength: content.MaxTotalLength, PieceLength: content.MaxPieceLength, FileName: strings.Repeat("\"", 255), ContentType: "a/" + strings.Repeat("b", 253)}
	info.PieceHashes = randomHashes(rand.New(rand.NewPCG(1, 1)), content.MaxPieces)
	info.FullHash = info.Geometry().Root(info.PieceHashes)
	if again, err := content.ParseInfo(info.Encode()); err != nil || len(again.PieceHashes) != content.MaxPieces {
		t.Error(err)
	}
}

func TestHashesAsText(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 4)
	full, err := content.ParseFullHash(text)
	if err != nil || full.String() != text || full.Short() != "01234567" || content.Hash(full).String() != text {
		t.Errorf("%s, %v", full, err)
	}
	for _, wrong := range []string{"", text[1:], text + "0", strings.ToUpper(text), "g" + text[1:], " " + text[1:], text[:62] + "é"} {
		if _, err := content.ParseFullHash(wrong); !errors.Is(err, &content.Error{Code: content.CodeBadFullHash}) {
			t.Errorf("full hash %q: %v", wrong, err)
		}
		quoted, _ := json.Marshal(wrong)
		if err := json.Unmarshal(quoted, new(content.FullHash)); err == nil {
			t.Errorf("full hash %q is taken from JSON", wrong)
		}
		hash := content.Hash{1}
		if err := json.Unmarshal(quoted, &hash); err == nil || hash != (content.Hash{1}) {
			t.Errorf("piece hash %q: %v", wrong, err)
		}
	}
}
