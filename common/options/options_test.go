package options

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestFromEnvironment(t *testing.T) {
	environment := map[string]string{
		"P2PCDN_DATA_DIR": "/from/environment", "P2PCDN_LISTEN": "ignored", "P2PCDN_EMPTY": "",
		"P2PCDN_MEDIATOR": "ws://a  ws://b", "P2PCDN_COUNT": "7", "P2PCDN_VERSION": "1.2.3", "P2PCDN_HELP": "me",
	}
	lookup := func(name string) (string, bool) { value, set := environment[name]; return value, set }
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	dataDir := flags.String("data-dir", "default", "")
	listen := flags.String("listen", "default", "")
	empty := flags.String("empty", "default", "")
	absent := flags.String("absent", "default", "")
	mediators := flags.StringArray("mediator", nil, "")
	count := flags.Int("count", 1, "")
	flags.Bool("version", false, "")
	flags.Bool("help", false, "")
	if err := flags.Parse([]string{"--listen", "command line"}); err != nil {
		t.Fatal(err)
	}
	if err := FromEnvironment(flags, lookup); err != nil {
		t.Fatal(err)
	}
	if *dataDir != "/from/environment" || *listen != "command line" || *empty != "default" || *absent != "default" || *count != 7 {
		t.Errorf("%q %q %q %q %d", *dataDir, *listen, *empty, *absent, *count)
	}
	if !slices.Equal(*mediators, []string{"ws://a", "ws://b"}) {
		t.Errorf("%q", *mediators)
	}
}

func TestFromEnvironmentNamesTheWrongVariable(t *testing.T) {
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.Int("count", 1, "")
	flags.Int("size", 1, "")
	err := FromEnvironment(flags, func(string) (string, bool) { return "many", true })
	if err == nil || !strings.Contains(err.Error(), "P2PCDN_COUNT") || !strings.Contains(err.Error(), "P2PCDN_SIZE") {
		t.Errorf("got %v", err)
	}
}

func TestVersion(t *testing.T) {
	if got := Version("v1.2.3"); got != "v1.2.3" {
		t.Errorf("told v1.2.3, it says %q", got)
	}
	if Version("") == "" {
		t.Error("it knows nothing of itself")
	}
}
