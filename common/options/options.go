// Package options is what the commands of this project have in common: the
// environment sets any flag.
package options

import (
	"errors"
	"fmt"
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
// variable, where lookup (os.LookupEnv) has one that is not empty. A flag that can
// be repeated takes several values with spaces between them. The error names
// every variable whose value the flag does not take.
func FromEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var problems []error
	flags.VisitAll(func(flag *pflag.Flag) {
		value, set := lookup(Variable(flag.Name))
		if !set || value == "" || flag.Changed {
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
