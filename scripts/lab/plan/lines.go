package plan

import (
	"bufio"
	"fmt"
	"regexp"
	"strings"
)

// lines knows on which line each table and each key of a lab file stands: "host[2]", "host[2].link", counted from 0. The
// decoder does not tell. It reads what lab files are made of, headers and keys at the beginning of a line; what is
// written otherwise, as an inline table, is not found, and then the line of the table around it is told, or none.
type lines map[string]int

var (
	arrayLine = regexp.MustCompile(`^\s*\[\[\s*([A-Za-z0-9_-]+)\s*\]\]`)
	tableLine = regexp.MustCompile(`^\s*\[\s*([A-Za-z0-9_-]+(?:\s*\.\s*"?[^\]"]+"?)?)\s*\]`)
	keyLine   = regexp.MustCompile(`^\s*"?([A-Za-z0-9_.-]+)"?\s*=`)
)

func findLines(text string) lines {
	found, counts, at := make(lines), make(map[string]int), ""
	scanner := bufio.NewScanner(strings.NewReader(text))
	scanner.Buffer(nil, MaxFile+1)
	for number := 1; scanner.Scan(); number++ {
		line := scanner.Text()
		if match := arrayLine.FindStringSubmatch(line); match != nil {
			found.keep(match[1], number)
			at = fmt.Sprintf("%s[%d]", match[1], counts[match[1]])
			counts[match[1]]++
			found.keep(at, number)
		} else if match := tableLine.FindStringSubmatch(line); match != nil {
			at = strings.NewReplacer(" ", "", `"`, "").Replace(match[1])
			found.keep(at, number)
		} else if match := keyLine.FindStringSubmatch(line); match != nil {
			found.keep(join(at, match[1]), number)
		}
	}
	return found
}

func (l lines) keep(path string, number int) {
	if _, known := l[path]; !known {
		l[path] = number
	}
}

// of is the line of a path, or of what is around it; 0: not known.
func (l lines) of(path string) int {
	for {
		if number, known := l[path]; known {
			return number
		}
		dot := strings.LastIndexByte(path, '.')
		if dot < 0 {
			return 0
		}
		path = path[:dot]
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
