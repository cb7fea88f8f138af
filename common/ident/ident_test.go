package ident_test

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"p2pcdn/common/ident"
)

const (
	peerText     = "0123456789abcdef0123456789abcdef01234567"
	mediatorText = "12D3KooWGzxzKZYveHXtpG6AsrUJBcWfHBFS2HsEoGTxrMLvKXtF"
)

func TestPeerID(t *testing.T) {
	id, err := ident.ParsePeerID(peerText)
	if err != nil || id.String() != peerText || id.Short() != "01234567" || id.IsZero() || id[1] != 0x23 {
		t.Errorf("%s, %v", id, err)
	}
	zero, err := ident.ParsePeerID(strings.Repeat("0", 40))
	if err != nil || !zero.IsZero() {
		t.Errorf("the id of zeros: %s, %v", zero, err)
	}
	for _, wrong := range []string{"", peerText[1:], peerText + "0", strings.ToUpper(peerText), "g" + peerText[1:], " " + peerText[1:], peerText[:38] + "é", mediatorText} {
		if id, err := ident.ParsePeerID(wrong); !errors.Is(err, ident.ErrBadPeerID) || !id.IsZero() {
			t.Errorf("%q: %s, %v", wrong, id, err)
		}
	}
}

func TestNewPeerID(t *testing.T) {
	random := bytes.NewReader([]byte(strings.Repeat("a", 20) + strings.Repeat("b", 20) + "c"))
	first, err := ident.NewPeerID(iotest.OneByteReader(random))
	if err != nil || first.String() != strings.Repeat("61", 20) {
		t.Errorf("%s, %v", first, err)
	}
	second, err := ident.NewPeerID(random)
	if err != nil || second == first {
		t.Errorf("%s, %v", second, err)
	}
	if id, err := ident.NewPeerID(random); !errors.Is(err, io.ErrUnexpectedEOF) || !id.IsZero() {
		t.Errorf("from one byte: %s, %v", id, err)
	}
}

func TestMediatorID(t *testing.T) {
	for _, text := range []string{mediatorText, "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", strings.Repeat("1", 40), strings.Repeat("z", 64)} {
		id, err := ident.ParseMediatorID(text)
		if err != nil || id.String() != text || id.Short() != text[len(text)-8:] || id.IsZero() {
			t.Errorf("%s: %s, %v", text, id, err)
		}
	}
	for _, wrong := range []string{"", mediatorText[:39], strings.Repeat("1", 65), "0" + mediatorText[1:], "O" + mediatorText[1:], "I" + mediatorText[1:], "l" + mediatorText[1:], mediatorText + " ", mediatorText[:50] + "é", "\xff" + mediatorText, peerText} {
		if id, err := ident.ParseMediatorID(wrong); !errors.Is(err, ident.ErrBadMediatorID) || !id.IsZero() {
			t.Errorf("%q: %s, %v", wrong, id, err)
		}
	}
	var zero ident.MediatorID
	if zero.String() != "" || zero.Short() != "" || !zero.IsZero() {
		t.Errorf("the zero value is %q, %q", zero, zero.Short())
	}
}

// Ids go through JSON as their texts, and a malformed one leaves the old one.
func TestIDsAsText(t *testing.T) {
	peer, _ := ident.ParsePeerID(peerText)
	mediator, _ := ident.ParseMediatorID(mediatorText)
	for _, test := range []struct {
		id    encoding.TextMarshaler
		into  encoding.TextUnmarshaler
		value func(any) any
		text  string
	}{
		{peer, new(ident.PeerID), func(p any) any { return *p.(*ident.PeerID) }, peerText},
		{mediator, new(ident.MediatorID), func(p any) any { return *p.(*ident.MediatorID) }, mediatorText},
	} {
		encoded, err := json.Marshal(test.id)
		if err != nil || string(encoded) != `"`+test.text+`"` {
			t.Errorf("%s, %v", encoded, err)
		}
		if err := json.Unmarshal(encoded, test.into); err != nil || test.value(test.into) != any(test.id) {
			t.Errorf("%s: %v", encoded, err)
		}
		if err := json.Unmarshal([]byte(`"wrong"`), test.into); err == nil || test.value(test.into) != any(test.id) {
			t.Errorf("after a wrong text: %v, %v", test.value(test.into), err)
		}
	}
}
