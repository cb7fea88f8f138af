package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of /proc/<pid>/stat on every Linux (sysconf _SC_CLK_TCK).
const ticksPerSecond = 100

// used is the processor time of all the processes, user and system.
func used(pids []string) (sum time.Duration, err error) {
	for _, pid := range pids {
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			return 0, err
		}
		// Behind the name, which may hold anything but the last parenthesis: utime and stime are the 12th and 13th.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, field := range fields[11:13] {
			ticks, err := strconv.Atoi(field)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(ticks) * time.Second / ticksPerSecond
		}
	}
	return sum, nil
}

// resident is the resident memory of all the processes, in KiB.
func resident(pids []string) (sum float64, err error) {
	for _, pid := range pids {
		text, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil {
			return 0, err
		}
		_, rest, found := strings.Cut(string(text), "VmRSS:")
		var kib float64
		if _, err := fmt.Sscan(rest, &kib); !found || err != nil {
			return 0, fmt.Errorf("process %s does not say what memory it has", pid)
		}
		sum += kib
	}
	return sum, nil
}
