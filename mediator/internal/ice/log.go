package ice

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// levelTrace is below debug: the library tells of every packet.
const levelTrace = slog.LevelDebug - 4

// loggers makes the library log through ours. Whatever it has to say is about a single client,
// and so is no more than debugging.
type loggers struct{ log *slog.Logger }

// NewLogger implements [logging.LoggerFactory].
func (l loggers) NewLogger(scope string) logging.LeveledLogger {
	return &logger{l.log.With("pion", scope)}
}

type logger struct{ log *slog.Logger }

func (l *logger) say(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, fmt.Sprintf(format, args...))
	}
}

func (l *logger) Trace(text string)                 { l.say(levelTrace, "%s", []any{text}) }
func (l *logger) Tracef(format string, args ...any) { l.say(levelTrace, format, args) }
func (l *logger) Debug(text string)                 { l.say(levelTrace, "%s", []any{text}) }
func (l *logger) Debugf(format string, args ...any) { l.say(levelTrace, format, args) }
func (l *logger) Info(text string)                  { l.say(slog.LevelDebug, "%s", []any{text}) }
func (l *logger) Infof(format string, args ...any)  { l.say(slog.LevelDebug, format, args) }
func (l *logger) Warn(text string)                  { l.say(slog.LevelDebug, "%s", []any{text}) }
func (l *logger) Warnf(format string, args ...any)  { l.say(slog.LevelDebug, format, args) }
func (l *logger) Error(text string)                 { l.say(slog.LevelDebug, "%s", []any{text}) }
func (l *logger) Errorf(format string, args ...any) { l.say(slog.LevelDebug, format, args) }
