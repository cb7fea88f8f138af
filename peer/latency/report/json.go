package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"p2pcdn/common/timeline"
)

// Schema is the version of the JSON report.
const Schema = 1

// Report is the JSON report; the package comment says what it holds.
type Report struct {
	Schema        int               `json:"schema"`
	StartedAt     time.Time         `json:"started_at"`
	Environment   Environment       `json:"environment"`
	Versions      map[string]string `json:"versions"`
	Seed          uint64            `json:"seed"`
	Arguments     []string          `json:"arguments"`
	Interrupted   bool              `json:"interrupted"`
	Introductions []*timeline.Row   `json:"introductions"`
	Summary       []*Group          `json:"summary"`
}

// Environment is what a run ran on.
type Environment struct {
	Go     string `json:"go"`
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel"`
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
}

// ThisEnvironment returns that of this process.
func ThisEnvironment() Environment {
	e := Environment{Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU()}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		e.Kernel = strings.TrimSpace(string(text))
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			name, value, found := strings.Cut(line, ":")
			if found && strings.TrimSpace(name) == "model name" {
				e.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	return e
}

// Versions returns that of the program, under peer, and those of the modules that make its connections.
func Versions(program string) map[string]string {
	versions := map[string]string{"peer": program}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return versions
	}
	for _, module := range build.Deps {
		if strings.HasPrefix(module.Path, "github.com/pion/") || module.Path == "github.com/coder/websocket" {
			if module.Replace != nil {
				module = module.Replace
			}
			versions[module.Path] = module.Version
		}
	}
	return versions
}

// Write writes the report.
func (r *Report) Write(out io.Writer) error {
	r.Schema = Schema
	if r.Introductions == nil { // an empty list, and no null
		r.Introductions = []*timeline.Row{}
	}
	if r.Summary == nil {
		r.Summary = []*Group{}
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(r); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}
