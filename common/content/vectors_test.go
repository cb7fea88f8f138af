package content_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"p2pcdn/common/content"
)

// readVectors fills into from a file in testdata/vectors, whose "format" field
// says what it holds. The TypeScript tests read the same files.
func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// codeOf returns the class of a failure, which every failure must have.
func codeOf(t *testing.T, err error) content.Code {
	t.Helper()
	var failure *content.Error
	if !errors.As(err, &failure) {
		t.Fatalf("%v (%T) is no *Error", err, err)
	}
	return failure.Code
}

// sample is the content of the vectors: byte i is i modulo 251.
func sample(length int64) []byte {
	data := make([]byte, length)
	for i := range data {
		data[i] = byte(i % 251)
	}
	return data
}

func TestRootVectors(t *testing.T) {
	type vector struct {
		TotalLength       int64            `json:"total_length"`
		PieceLength       int64            `json:"piece_length"`
		Default           bool             `json:"default"`
		FullHash          content.FullHash `json:"full_hash"`
		PieceHashesCount  int              `json:"piece_hashes_count"`
		PieceHashesSHA256 *string          `json:"piece_hashes_sha256"`
	}
	for _, name := range []string{"bep52.json", "roots.json"} {
		var file struct{ Vectors []vector }
		readVectors(t, name, &file)
		if len(file.Vectors) < 8 {
			t.Fatalf("%s holds %d vectors", name, len(file.Vectors))
		}
		for _, v := range file.Vectors {
			geometry := content.Geometry{TotalLength: v.TotalLength, PieceLength: v.PieceLength}
			sum, err := geometry.Sum(t.Context(), bytes.NewReader(sample(v.TotalLength)), nil)
			if err != nil {
				t.Fatalf("%s: %+v: %v", name, geometry, err)
			}
			var joined *string
			if len(sum.PieceHashes) > 0 {
				hash := sha256.New()
				for _, piece := range sum.PieceHashes {
					hash.Write(piece[:])
				}
				text := hex.EncodeToString(hash.Sum(nil))
				joined = &text
			}
			if sum.FullHash != v.FullHash || len(sum.PieceHashes) != v.PieceHashesCount || !reflect.DeepEqual(joined, v.PieceHashesSHA256) {
				t.Errorf("%s: %+v: %s and %d piece hashes", name, geometry, sum.FullHash, len(sum.PieceHashes))
			}
			if v.Default && content.DefaultPieceLength(v.TotalLength) != v.PieceLength {
				t.Errorf("the default for %d is %d", v.TotalLength, content.DefaultPieceLength(v.TotalLength))
			}
		}
	}
}

func TestInfoVectors(t *testing.T) {
	var file struct {
		Vectors []struct {
			Name, Text string
			Base64     []byte
			Spaces     int
			Info       *content.Info
			Code       content.Code
		}
	}
	readVectors(t, "info.json", &file)
	seen := map[content.Code]bool{}
	for _, v := range file.Vectors {
		text := append([]byte(v.Text), v.Base64...)
		text = append(text, strings.Repeat(" ", v.Spaces)...)
		info, err := content.ParseInfo(text)
		if (v.Info == nil) == (v.Code == "") {
			t.Fatalf("%s: must have either info or code", v.Name)
		}
		if v.Code != "" {
			seen[v.Code] = true
			if err == nil {
				t.Errorf("%s: accepted as %+v", v.Name, info)
			} else if code := codeOf(t, err); code != v.Code {
				t.Errorf("%s: %s instead of %s", v.Name, code, v.Code)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if !reflect.DeepEqual(info, *v.Info) {
			t.Errorf("%s: %+v instead of %+v", v.Name, info, *v.Info)
		}
		if again, err := content.ParseInfo(info.Encode()); err != nil || !reflect.DeepEqual(again, info) {
			t.Errorf("%s: encoded and parsed again %+v, %v", v.Name, again, err)
		}
	}
	for _, code := range []content.Code{
		content.CodeBadFullHash, content.CodeBadPieceHash, content.CodeBadDictionary, content.CodeBadFileName,
		content.CodeBadContentType, content.CodeBadTotalLength, content.CodeBadPieceLength, content.CodeTooManyPieces,
		content.CodeWrongPieceCount, content.CodeContradiction, content.CodeDictionaryTooBig,
	} {
		if !seen[code] {
			t.Errorf("no vector has %s", code)
		}
	}
}

func TestLinkVectors(t *testing.T) {
	type fields struct {
		FullHash    content.FullHash `json:"full_hash"`
		TotalLength int64            `json:"total_length"`
		FileName    string           `json:"file_name"`
		ContentType string           `json:"content_type"`
		PieceLength int64            `json:"piece_length"`
		Mediators   []string         `json:"mediators"`
	}
	var file struct {
		Vectors []struct {
			Name, Text, Printed string
			Link                *fields
			Code                content.Code
		}
		MediatorURLs []struct {
			URL string
			OK  bool
		} `json:"mediator_urls"`
	}
	readVectors(t, "links.json", &file)
	seen := map[content.Code]bool{}
	for _, v := range file.Vectors {
		link, err := content.ParseLink(v.Text)
		if (v.Link == nil) == (v.Code == "") {
			t.Fatalf("%s: must have either link or code", v.Name)
		}
		if v.Code != "" {
			seen[v.Code] = true
			if err == nil {
				t.Errorf("%s: accepted as %+v", v.Name, link)
			} else if code := codeOf(t, err); code != v.Code {
				t.Errorf("%s: %s instead of %s", v.Name, code, v.Code)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		want := content.Link(*v.Link)
		if len(want.Mediators) == 0 {
			want.Mediators = nil
		}
		if !reflect.DeepEqual(link, want) || link.String() != v.Printed || "p2pcdn:"+link.Fragment() != v.Printed {
			t.Errorf("%s: %+v, printed %s, instead of %+v", v.Name, link, link, want)
		}
		if again, err := content.ParseLink(v.Printed); err != nil || !reflect.DeepEqual(again, link) {
			t.Errorf("%s: printed and parsed again %+v, %v", v.Name, again, err)
		}
	}
	for _, code := range []content.Code{
		content.CodeBadLink, content.CodeLinkWithoutLen, content.CodeBadMediatorURL, content.CodeBadFullHash,
		content.CodeBadTotalLength, content.CodeBadPieceLength, content.CodeTooManyPieces, content.CodeBadFileName, content.CodeBadContentType,
	} {
		if !seen[code] {
			t.Errorf("no vector has %s", code)
		}
	}
	for _, v := range file.MediatorURLs {
		err := content.CheckMediatorURL(v.URL)
		if (err == nil) != v.OK {
			t.Errorf("mediator URL %q: %v", v.URL, err)
		}
		if err != nil && codeOf(t, err) != content.CodeBadMediatorURL {
			t.Errorf("mediator URL %q: %v", v.URL, err)
		}
	}
}

// layer is the one of proofs.json: piece hash i is the SHA-256 of i.
func layer(pieces int) []content.Hash {
	hashes := make([]content.Hash, pieces)
	for i := range hashes {
		hashes[i] = sha256.Sum256(binary.BigEndian.AppendUint32(nil, uint32(i)))
	}
	return hashes
}

func TestProofVectors(t *testing.T) {
	var file struct {
		Vectors []struct {
			Name         string
			TotalLength  int64            `json:"total_length"`
			PieceLength  int64            `json:"piece_length"`
			FullHash     content.FullHash `json:"full_hash"`
			Index        int
			First, Count int
			Replace      *struct {
				At   int
				Hash content.Hash
			}
			Proof []content.Hash
			Code  content.Code
		}
	}
	readVectors(t, "proofs.json", &file)
	good, refused := 0, 0
	for _, v := range file.Vectors {
		geometry := content.Geometry{TotalLength: v.TotalLength, PieceLength: v.PieceLength}
		if v.Code == "" {
			good++
			hashes, proof := content.NewProofs(geometry, layer(geometry.Pieces())).Prove(v.Index)
			if !reflect.DeepEqual(hashes, layer(v.First + v.Count)[v.First:]) || len(proof) != len(v.Proof) ||
				(len(proof) > 0 && !reflect.DeepEqual(proof, v.Proof)) {
				t.Errorf("%s: proven by %d hashes and %v", v.Name, len(hashes), proof)
			}
		}
		hashes := layer(v.First + v.Count)[v.First:]
		if v.Replace != nil {
			hashes[v.Replace.At] = v.Replace.Hash
		}
		err := geometry.CheckProof(v.FullHash, v.Index, hashes, v.Proof)
		switch {
		case v.Code == "" && err != nil:
			t.Errorf("%s: %v", v.Name, err)
		case v.Code != "" && err == nil:
			t.Errorf("%s: accepted", v.Name)
		case v.Code != "":
			refused++
			if code := codeOf(t, err); code != v.Code {
				t.Errorf("%s: %s instead of %s", v.Name, code, v.Code)
			}
		}
	}
	if good < 30 || refused < 20 {
		t.Errorf("only %d good vectors and %d bad ones", good, refused)
	}
}

func TestGeometryVectors(t *testing.T) {
	type some struct {
		Piece        int
		Offset, Size int64
		Leaves       int
	}
	var file struct {
		Defaults, Vectors []struct {
			TotalLength int64 `json:"total_length"`
			PieceLength int64 `json:"piece_length"`
			Pieces      int
			ProofSpan   int `json:"proof_span"`
			Some        []some
			Code        content.Code
		}
	}
	readVectors(t, "geometry.json", &file)
	for _, v := range file.Defaults {
		if got := content.DefaultPieceLength(v.TotalLength); got != v.PieceLength {
			t.Errorf("the default for %d is %d instead of %d", v.TotalLength, got, v.PieceLength)
		}
		if err := (content.Geometry{TotalLength: v.TotalLength, PieceLength: v.PieceLength}).Check(); err != nil {
			t.Error(err)
		}
	}
	checked := 0
	for _, v := range file.Vectors {
		geometry := content.Geometry{TotalLength: v.TotalLength, PieceLength: v.PieceLength}
		if err := geometry.Check(); v.Code != "" {
			if err == nil || codeOf(t, err) != v.Code {
				t.Errorf("%+v: %v instead of %s", geometry, err, v.Code)
			}
			continue
		} else if err != nil {
			t.Errorf("%+v: %v", geometry, err)
			continue
		}
		if geometry.Pieces() != v.Pieces || geometry.ProofSpan() != v.ProofSpan {
			t.Errorf("%+v: %d pieces, proven by %d", geometry, geometry.Pieces(), geometry.ProofSpan())
		}
		for _, want := range v.Some {
			got := some{want.Piece, geometry.PieceOffset(want.Piece), geometry.PieceSize(want.Piece), geometry.Leaves(want.Piece)}
			if checked++; got != want {
				t.Errorf("%+v: %+v instead of %+v", geometry, got, want)
			}
		}
	}
	if checked < 20 || len(file.Defaults) < 10 {
		t.Errorf("only %d pieces and %d defaults were checked", checked, len(file.Defaults))
	}
}
