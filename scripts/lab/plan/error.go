package plan

import "fmt"

// Code is the class of what is wrong with a lab file: stable, for programs.
type Code string

// The classes.
const (
	CodeSyntax     Code = "syntax"            // no TOML
	CodeTooLarge   Code = "too_large"         // more than MaxFile bytes
	CodeUnknownKey Code = "unknown_key"       // a key that means nothing there
	CodeMissing    Code = "missing"           // a key that must be there
	CodeWrongType  Code = "wrong_type"        // a number where a text must be, and such
	CodeBadName    Code = "bad_name"          // of a host, a link or a run
	CodeDuplicate  Code = "duplicate"         // two hosts, or two runs, of one name
	CodeReference  Code = "unknown_reference" // a name of nothing that is there
	CodeBadChoice  Code = "bad_choice"        // none of those that there are
	CodeBadTime    Code = "bad_duration"      // no time as 12.5ms
	CodeBadRate    Code = "bad_rate"          // no rate as 100mbit
	CodeBadSize    Code = "bad_size"          // no size as 200KB
	CodeBadBound   Code = "bad_bound"         // no limit as 11rtt, 600ms or 0.5x
	CodeRange      Code = "out_of_range"      // a number that is too small or too large
	CodeConflict   Code = "conflict"          // two things that exclude each other
	CodeTooMany    Code = "too_many"          // more hosts, links, runs or bounds than there may be
)

// Error is one thing that is wrong with a lab file.
type Error struct {
	Code    Code
	File    string
	Line    int    // from 1; 0: not known
	Message string // for people; may change
}

// Error returns where it is, the message and the code.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s (%s)", e.File, e.Message, e.Code)
	}
	return fmt.Sprintf("%s:%d: %s (%s)", e.File, e.Line, e.Message, e.Code)
}

// Errors are all things that are wrong with a lab file, in the order of its lines. There is at least one.
type Errors []*Error

// Error returns a line for each.
func (e Errors) Error() string {
	text := ""
	for i, one := range e {
		if i > 0 {
			text += "\n"
		}
		text += one.Error()
	}
	return text
}
