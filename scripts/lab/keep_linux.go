package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"p2pcdn/scripts/lab/network"
	"p2pcdn/scripts/lab/results"
	"p2pcdn/scripts/lab/router"
)

// kept is lab.json.
type kept struct {
	Schema     int                     `json:"schema"` // 1; keys may be added
	Lab        string                  `json:"lab"`
	Seed       uint64                  `json:"seed"`
	Arguments  []string                `json:"arguments"`
	StartedAt  time.Time               `json:"started_at"`
	Seconds    float64                 `json:"seconds"`
	Complete   bool                    `json:"complete"` // it was not interrupted
	Machine    machine                 `json:"machine"`
	Versions   map[string]string       `json:"versions"`
	RoundTrips []results.Pair          `json:"round_trips"`
	Runs       []results.Group         `json:"runs"`
	Musts      []results.Verdict       `json:"musts"`
	Router     network.Lateness        `json:"router"`
	Links      map[string]router.Stats `json:"links"` // by host
}

type machine struct {
	Kernel string `json:"kernel"`
	Arch   string `json:"arch"`
	Cores  int    `json:"cores"`
	CPU    string `json:"cpu"`
}

// keep writes lab.json.
func (s *session) keep(ctx context.Context, groups []results.Group, verdicts []results.Verdict, late network.Lateness) error {
	k := kept{
		Schema: 1, Lab: s.plan.Name, Seed: s.plan.Seed, Arguments: os.Args[1:], StartedAt: s.began.UTC().Truncate(time.Second),
		Seconds: time.Since(s.began).Round(time.Millisecond).Seconds(), Complete: ctx.Err() == nil, Machine: thisMachine(), Versions: s.versions(),
		RoundTrips: s.trips.Pairs, Runs: groups, Musts: verdicts, Router: late, Links: make(map[string]router.Stats),
	}
	for i, stats := range s.network.Stats() {
		k.Links[s.plan.Hosts[i].Name] = stats
	}
	text, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding what was measured: %w", err)
	}
	return os.WriteFile(filepath.Join(s.out, "lab.json"), append(text, '\n'), 0o644)
}

func thisMachine() machine {
	m := machine{Arch: runtime.GOARCH, Cores: runtime.NumCPU()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	text, _ := os.ReadFile("/proc/cpuinfo") // not every system says it
	for line := range strings.Lines(string(text)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}

// versions are those of the programs that run.
func (s *session) versions() map[string]string {
	versions := map[string]string{"go": runtime.Version()}
	programs := map[string]string{"mediator": filepath.Join(s.bin, "mediator"), "peer": filepath.Join(s.bin, "peer")}
	for _, run := range s.plan.Runs {
		switch run.Browser {
		case "chromium":
			programs["chromium"] = "chromium"
		case "firefox":
			programs["firefox"] = "firefox-esr"
		}
	}
	for name, program := range programs {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		text, err := exec.CommandContext(ctx, program, "--version").Output()
		cancel()
		if err == nil {
			versions[name] = strings.TrimSpace(string(text))
		}
	}
	return versions
}
