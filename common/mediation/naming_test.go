package mediation_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"p2pcdn/common/mediation"
)

// TestNaming reads testdata/vectors/naming.json, as the TypeScript tests do.
func TestNaming(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "vectors", "naming.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Name, From, To string
			May            bool
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) == 0 {
		t.Fatal("there are no vectors")
	}
	for _, v := range file.Vectors {
		if got := mediation.MayName(v.From, v.To); got != v.May {
			t.Errorf("%s: %v", v.Name, got)
		}
	}
}
