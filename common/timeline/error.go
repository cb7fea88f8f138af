package timeline

import "fmt"

// Code is the class of a failure, stable across versions and languages: the vectors name it.
type Code string

// The classes of failure of this package.
const (
	CodeBadText       Code = "bad_text"        // not UTF-8, or a quote where none may be
	CodeTooLong       Code = "too_long"        // a row of more than MaxRow bytes or MaxColumns fields
	CodeTooMany       Code = "too_many"        // more than MaxRows rows
	CodeNoHeader      Code = "no_header"       // the text is empty
	CodeBadHeader     Code = "bad_header"      // a column is missing, or there twice
	CodeNewerSchema   Code = "newer_schema"    // a row of a later version
	CodeBadFieldCount Code = "bad_field_count" // a row of more or fewer fields than there are columns
	CodeBadField      Code = "bad_field"       // a field does not hold what its column says
)

// Error is a failure with its class.
type Error struct {
	Code    Code
	Line    int    // of the text, from 1; 0 where it is not known
	Message string // for people; may change
}

// Error returns the message, with the line before it and the code behind it.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s (%s)", e.Message, e.Code)
	}
	return fmt.Sprintf("line %d: %s (%s)", e.Line, e.Message, e.Code)
}

// Is makes errors.Is(err, &Error{Code: c}) true for every error of class c.
func (e *Error) Is(target error) bool {
	other, is := target.(*Error)
	return is && other.Code == e.Code && other.Line == 0 && other.Message == ""
}

func fail(code Code, format string, values ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, values...)}
}

// bad is the failure of a field.
func bad(column string, value any) *Error {
	return fail(CodeBadField, "the column %s cannot hold %.60q", column, fmt.Sprint(value))
}
