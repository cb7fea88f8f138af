package latency

import (
	"context"
	"errors"
	"strings"

	"p2pcdn/common/timeline"
	"p2pcdn/peer/signaling"
)

// The classes of failure, as error_code in the table.
const (
	CodeMediatorUnreachable = "mediator_unreachable" // nobody listens there, or the network does not lead there
	CodeMediatorRefused     = "mediator_refused"     // it does not want us
	CodeNoMediator          = "no_mediator"          // somebody answers who is none
	CodeMediatorLost        = "mediator_lost"        // the line to it broke
	CodeNotAnnounced        = "not_announced"        // the seeder's announce was not confirmed in time
	CodeNoPeer              = "no_peer"              // nobody was named in time
	CodeConnectionFailed    = "connection_failed"    // somebody was named, and no connection came about in time
	CodeTimeout             = "timeout"              // there was a connection, and the content did not come in time
	CodeConnectionLost      = "connection_lost"      // there was a connection, and it broke
	CodePeerRefused         = "peer_refused"         // the peer does not serve the content
	CodeWrongData           = "wrong_data"           // what came is not what the hash names
	CodeInterrupted         = "interrupted"          // whoever measures ended the run
	CodeEarlierFailed       = "earlier_failed"       // of an introduction that was skipped: an earlier content of the same pair failed
	CodeLocal               = "local_failure"        // we failed ourselves, for example to write a file
)

// Failure is why a content did not come, or was not announced.
type Failure struct {
	Code string
	Err  error
}

// Error implements error.
func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

func failed(code, text string) *Failure { return &Failure{code, errors.New(text)} }

// lineFailure is the failure of a line to a mediator.
func lineFailure(err error) *Failure {
	code := CodeMediatorUnreachable
	switch {
	case errors.Is(err, signaling.ErrRefused):
		code = CodeMediatorRefused
	case errors.Is(err, signaling.ErrNotMediator):
		code = CodeNoMediator
	case errors.Is(err, signaling.ErrLost):
		code = CodeMediatorLost
	}
	return &Failure{code, err}
}

// cause is the failure of an introduction whose context ended: an interruption, or else what the
// stamps say that was waited for.
func cause(ctx context.Context, stamps timeline.Stamps) *Failure {
	var told *Failure
	reached := func(phase timeline.Phase) bool { _, is := stamps[phase]; return is }
	switch err := context.Cause(ctx); {
	case errors.As(err, &told):
		return told
	case !errors.Is(err, context.DeadlineExceeded):
		return failed(CodeInterrupted, "interrupted")
	case !reached(timeline.Established) && !reached(timeline.PeersNamed) && !reached(timeline.AnswerReceived):
		return failed(CodeMediatorUnreachable, "the mediator did not answer in time")
	case !reached(timeline.PeersNamed) && !reached(timeline.AnswerReceived):
		return failed(CodeNoPeer, "no peer was named in time")
	case !reached(timeline.ChannelOpen):
		return failed(CodeConnectionFailed, "no connection came about in time")
	}
	return failed(CodeTimeout, "the content did not come in time")
}

// tell notes in the row how it ended.
func tell(row *timeline.Row, failure *Failure) {
	row.Outcome = timeline.Done
	if failure != nil {
		row.Outcome, row.ErrorCode, row.Error = timeline.Failed, failure.Code, oneLine(failure.Error())
	}
}

// oneLine makes a text of ours fit the table, on a line of its own.
func oneLine(text string) string {
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "?")
	return strings.ToValidUTF8(text[:min(len(text), timeline.MaxText)], "")
}
