// Package options is what the commands of this project have in common: the
// environment sets any flag, and each says which version it is.
package options

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/pflag"
)

// Prefix begins the name of every variable.
const Prefix = "P2PCDN_"

// Variable returns the environment variable of a flag: P2PCDN_DATA_DIR for data-dir.
func Variable(flag string) string {
	return Prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// FromEnvironment sets every flag that the command line left alone from its
// variable, where lookup (os.LookupEnv) has one that is not empty; but for --help
// and --version, which are questions and no settings. A flag that can be repeated
// takes several values with white space between them. The error names every
// variable whose value the flag does not take.
func FromEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var problems []error
	flags.VisitAll(func(flag *pflag.Flag) {
		value, set := lookup(Variable(flag.Name))
		if !set || value == "" || flag.Changed || flag.Name == "help" || flag.Name == "version" {
			return
		}
		values := []string{value}
		if _, repeated := flag.Value.(pflag.SliceValue); repeated {
			values = strings.Fields(value)
		}
		for _, value := range values {
			if err := flags.Set(flag.Name, value); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", Variable(flag.Name), err))
			}
		}
	})
	return errors.Join(problems...)
}

// Version returns what the build was told (by the linker), or else what Go knows of
// the module and the revision.
func Version(told string) string {
	build, ok := debug.ReadBuildInfo()
	if told != "" || !ok {
		return told
	}
	text := build.Main.Version
	for _, setting := range build.Settings {
		if revision := setting.Value[:min(12, len(setting.Value))]; setting.Key == "vcs.revision" && !strings.Contains(text, revision) {
			text += " " + revision
		}
	}
	return text
}
