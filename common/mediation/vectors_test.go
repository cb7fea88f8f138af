package mediation_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"p2pcdn/common/mediation"
)

// vector is one of testdata/vectors/messages.json, whose "format" field says
// what it means. The TypeScript tests read the same file.
type vector struct {
	Name, Text string
	Base64     []byte
	Fill       struct {
		Text, Value string
		Count       int
	}
	Message json.RawMessage
	Code    mediation.ErrorCode
}

const fill = "{fill}"

func (v vector) text() []byte {
	return append([]byte(strings.ReplaceAll(v.Text, fill, strings.Repeat(v.Fill.Text, v.Fill.Count))), v.Base64...)
}

// message is the object that is expected, nil where a code is.
func (v vector) message(t testing.TB) any {
	if v.Message == nil {
		return nil
	}
	return v.filled(parse(t, v.Message))
}

func (v vector) filled(value any) any {
	switch value := value.(type) {
	case string:
		return strings.ReplaceAll(value, fill, strings.Repeat(v.Fill.Value, v.Fill.Count))
	case []any:
		for i := range value {
			value[i] = v.filled(value[i])
		}
	case map[string]any:
		for name := range value {
			value[name] = v.filled(value[name])
		}
	}
	return value
}

func parse(t testing.TB, text []byte) (value any) {
	t.Helper()
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatalf("%.80s: %v", text, err)
	}
	return value
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "vectors", "messages.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []vector }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file.Vectors
}

func TestVectors(t *testing.T) {
	types, codes := map[string]bool{}, map[mediation.ErrorCode]bool{}
	for _, v := range readVectors(t) {
		if (v.Message == nil) == (v.Code == "") {
			t.Fatalf("%s: must have either message or code", v.Name)
		}
		message, err := mediation.Decode(v.text())
		if v.Code != "" {
			codes[v.Code] = true
			var failure *mediation.Error
			switch {
			case err == nil:
				t.Errorf("%s: accepted as %.200v", v.Name, message)
			case !errors.As(err, &failure) || failure.Code != v.Code:
				t.Errorf("%s: %v instead of %s", v.Name, err, v.Code)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		types[reflect.TypeOf(message).String()] = true
		encoded := mediation.Encode(message)
		if want := v.message(t); !reflect.DeepEqual(parse(t, encoded), want) {
			t.Errorf("%s: encoded as %.300s", v.Name, encoded)
		}
		again, err := mediation.Decode(encoded)
		if err != nil || !reflect.DeepEqual(again, message) {
			t.Errorf("%s: encoded and decoded again %.200v, %v", v.Name, again, err)
		}
		if len(encoded) > len(v.text()) {
			t.Errorf("%s: %d bytes became %d", v.Name, len(v.text()), len(encoded))
		}
	}
	if len(types) != 12 {
		t.Errorf("the vectors have these types only: %v", types)
	}
	for _, code := range decoderCodes {
		if !codes[code] {
			t.Errorf("no vector has %s", code)
		}
	}
}

// decoderCodes are all that Decode gives.
var decoderCodes = []mediation.ErrorCode{
	mediation.CodeBadMessage, mediation.CodeUnknownType, mediation.CodeBadFullHash, mediation.CodeBadPeerID,
	mediation.CodeBadConnectionType, mediation.CodeMessageTooBig, mediation.CodeSignalTooBig,
}

// TestVectorsOverStream sends every vector that fits over one stream, good and
// bad ones mixed: a wrong message must not disturb the next one.
func TestVectorsOverStream(t *testing.T) {
	var stream bytes.Buffer
	var sent []vector
	for _, v := range readVectors(t) {
		if v.Code != mediation.CodeMessageTooBig {
			stream.Write(frame(v.text()))
			sent = append(sent, v)
		}
	}
	for _, v := range sent {
		message, err := mediation.ReadFrom(&stream)
		switch {
		case v.Code != "":
			if !errors.Is(err, &mediation.Error{Code: v.Code}) {
				t.Fatalf("%s: %v, %v", v.Name, message, err)
			}
		case err != nil:
			t.Fatalf("%s: %v", v.Name, err)
		case !reflect.DeepEqual(parse(t, mediation.Encode(message)), v.message(t)):
			t.Fatalf("%s: came out as %.200v", v.Name, message)
		}
	}
}
