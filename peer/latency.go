package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"p2pcdn/common/options"
	"p2pcdn/common/timeline"
	"p2pcdn/peer/client"
	"p2pcdn/peer/latency"
	"p2pcdn/peer/latency/draw"
	"p2pcdn/peer/latency/report"
)

const (
	// defaultIntroductions are enough for an interval of the median: its ends are the tenth and the twenty-first.
	defaultIntroductions = 30

	// defaultContent is a picture of a page, in bytes.
	defaultContent = 200_000

	// defaultPatience is how long an introduction may take: longer than a connection may take to open.
	defaultPatience = 30 * time.Second

	// mostParallel bounds --parallel: each introduction has two peers with a connection, and they disturb each other.
	mostParallel = 64
)

func latencyCommand(w world, mediators *mediatorList) *cobra.Command {
	m := measuring{w: w, size: defaultContent}
	command := &cobra.Command{
		Use:   "latency",
		Short: "Measure how long peers take to come together",
		Long:  latencyHelp(),
		Example: `  peer latency -n 30 --csv run.csv --json run.json --svg pictures
  peer latency -m wss://a.example/mediation -m wss://b.example/mediation --contents 2
  peer latency -n 30 --flow prototype --csv prototype.csv
  peer latency --serve -m wss://a.example/mediation -n 10 | ssh there peer latency --links - -n 10
  peer latency --draw run.csv --draw prototype.csv --svg pictures --rtt 50ms`,
		Args: m.arguments,
		RunE: func(command *cobra.Command, args []string) error {
			m.mediators = *mediators
			m.draw = append(m.draw, args...)
			return m.run(command)
		},
	}
	flags := command.Flags()
	m.introductions.most, m.parallel.most, m.contents.most = timeline.MaxRows, mostParallel, 100
	flags.VarP(&m.introductions, "introductions", "n", fmt.Sprintf("introduce `N` pairs; with --serve: start N seeders; with --links: read N lines (default %d, all lines)", defaultIntroductions))
	flags.Var(&m.parallel, "parallel", "introduce `K` pairs at a time (default 1: they disturb each other)")
	flags.Var(&m.size, "size", "contents have so many `BYTES`, also as 200kB or 1MiB")
	flags.Var(&m.contents, "contents", "each pair exchanges `M` contents, one after the other, over the same connection (default 1)")
	pieceLengthFlag(command, &m.pieceLength)
	flags.StringVar(&m.flow, "flow", string(timeline.Fast), "protocol `FLOW` of the peers: fast, or prototype, that of the prototype before this project")
	flags.StringSliceVar(&m.without, "without", nil, "leave out `CUT` of what saves round trips, to see what it saves: "+cutsHelp())
	flags.Var(&m.seed, "seed", "make up the contents from `NUMBER` (default: a random one, which is printed)")
	flags.DurationVarP(&m.timeout, "timeout", "t", defaultPatience, "an introduction that takes longer fails; for each content anew")
	flags.StringVar(&m.scenario, "scenario", "", "`TEXT` for the column scenario")
	flags.BoolVar(&m.dictionaries, "dictionaries", false, "leechers know the piece hashes, as from an info dictionary; else what a link says")
	flags.BoolVar(&m.serve, "serve", false, "only serve: print the links of each seeder on a line when it is announced, until interrupted")
	flags.StringArrayVar(&m.link, "link", nil, "only fetch: introduce a leecher to who serves `LINK`; may be repeated")
	flags.StringVar(&m.links, "links", "", "only fetch: a leecher for each line of `FILE` (- for standard input), which has a link or several")
	flags.StringVar(&m.csv, "csv", "", "write a row for each content to `FILE`, as soon as it is there or failed")
	flags.StringVar(&m.json, "json", "", "write everything to `FILE`: environment, versions, rows and summary")
	flags.StringVar(&m.svg, "svg", "", "draw the results as SVG into the folder `DIR`")
	flags.StringVar(&m.png, "png", "", "draw the results as PNG into the folder `DIR`")
	flags.StringArrayVar(&m.draw, "draw", nil, "measure nothing: print and draw what the CSV `FILE` holds; more files may follow")
	flags.DurationVar(&m.rtt, "rtt", 0, "the round trip of the network, such as 50ms: medians are said, and lines drawn, in round trips, too")
	return command
}

// names lists cuts.
func names(cuts []client.Cut) string {
	var texts []string
	for _, cut := range cuts {
		texts = append(texts, string(cut))
	}
	return strings.Join(texts, ", ")
}

// cutsHelp names all cuts.
func cutsHelp() string {
	var cuts []client.Cut
	for _, known := range client.Cuts {
		cuts = append(cuts, known.Cut)
	}
	return names(cuts)
}

// latencyHelp is what the command says of itself.
func latencyHelp() string {
	var cuts strings.Builder
	for _, known := range client.Cuts {
		fmt.Fprintf(&cuts, "  %-15s  %s\n", known.Cut, known.Does)
	}
	return latencyText + `

Cuts save the flow "fast" round trips; --without leaves some of them out. By each of
them a peer
` + cuts.String() + `
Mediators: those of --mediator, or else those that the links name, or else
` + defaultMediator + `; with --serve seeder i is on mediator i modulo their number.`
}

const latencyText = `latency brings fresh pairs of peers together, again and again, and measures how long
each phase takes: a seeder on the first --mediator announces a content that was never
there before; then a leecher on the last --mediator asks for it. It prints percentiles
with 95 % confidence intervals, and keeps what was measured as CSV and JSON.

The peers run in this process, or elsewhere: "peer latency --serve" prints links,
and "peer latency --links FILE" fetches by them, in another process or on another
machine.

An introduction that fails is a row with an error_code, and the run goes on. Ctrl-C
ends a run early; what was measured is kept. Exit codes: 0 everything is complete,
1 something failed, 2 wrong usage, 130 interrupted. With --serve Ctrl-C is the usual
end: 0 then, unless seeders could not announce.

Phases, in milliseconds since started (by the monotonic clock, before the mediator
is dialled):
  mediator_open    the WebSocket to the mediator is open
  lookup_sent      get_peers was handed to it
  offer_sent       the first offer was handed to it
  established      the mediator answered the handshake
  announced        (a seeder's) the announce is stored: any mediator finds it
  peers_named      the mediator named the first peer
  offer_received   (a seeder's) the first offer came
  answer_sent      (a seeder's) and was answered
  answer_received  the first answer came
  ice_connected    a pair of addresses was found that works
  dtls_connected   the handshake of the encryption is done
  channel_open     frames can be sent
  first_piece      the first piece is there and verified
  complete         the whole content is there, verified

Columns of the CSV (RFC 4180; the specification is the comment of common/timeline):
  schema           1: the version of the table
  scenario         the text of --scenario; without one, what --without leaves out
  seed, index      --seed, and the number of the introduction from 1
  flow             fast, prototype or webtorrent
  endpoint, role   go, chromium or firefox; leecher or seeder: what the row is about
  mediators        how many are in between
  content_bytes    length of the content
  content          1: the first one of the pair; 2: the next one; …
  peer             the first digits of the peer's id
  outcome          complete, failed or skipped (an earlier content of the pair failed, or the run
                   was interrupted)
  error_code       why, as a class:
                     mediator_unreachable, mediator_refused, no_mediator, mediator_lost,
                     not_announced, no_peer, connection_failed, connection_lost,
                     peer_refused, timeout, wrong_data, interrupted, earlier_failed,
                     local_failure
  error            why, for people
  started …        one column for each phase; empty where it was not reached

The JSON has schema (1), started_at, environment (go, os, arch, kernel, cpu, cores),
versions, seed, arguments, interrupted, introductions (the rows, with phases in an
object) and summary: for each group of rows with the same scenario, flow, endpoint,
role, mediators, content_bytes and content how many are complete, failed and skipped,
errors by code, and for each phase since_started, since_mediator_open and step (since
the phase before, by the clock): n and p50, p90, p99, each with value, low and high,
the ends of its interval, which are null where there are too few values.

The flow "prototype" is for comparison: get_peers only when the handshake is answered,
then again each second until a peer is named; the offer and the answer only with all
candidates in them; requests only when the other peer's handshake came; and a new
connection for each content.`

// measuring is one run of the latency command, owned by its goroutine.
type measuring struct {
	w             world
	mediators     mediatorList
	introductions amount
	parallel      amount
	contents      amount
	size          contentSize
	pieceLength   byteSize
	flow          string
	without       []string
	seed          seedNumber
	timeout       time.Duration
	scenario      string
	dictionaries  bool
	serve         bool
	link          []string
	links         string
	csv, json     string
	svg, png      string
	draw          []string
	rtt           time.Duration

	table   *timeline.Writer // nil: no CSV is kept
	rows    []*timeline.Row  // that were told
	view    *report.View
	started time.Time
}

func (m *measuring) arguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 && len(m.draw) == 0 {
		return wrongUsage("latency takes no arguments, but there is %q", args[0])
	}
	return nil
}

func (m *measuring) run(command *cobra.Command) (err error) {
	switch {
	case m.rtt < 0:
		return wrongUsage("--rtt must not be negative")
	case len(m.draw) > 0:
		return m.drawing(command)
	case m.serve && m.svg+m.png != "":
		return wrongUsage("--serve measures no introductions: --svg and --png are for those who fetch")
	}
	config, err := m.config(command.Context())
	if err != nil {
		return err
	}
	tableFile, err := create(m.csv)
	if err != nil {
		return err
	}
	defer finish(tableFile, &err)
	reportFile, err := create(m.json)
	if err != nil {
		return err
	}
	defer finish(reportFile, &err)
	if m.csv != "" {
		m.table = timeline.NewWriter(tableFile)
		if err := m.table.Header(); err != nil {
			return err
		}
	}
	m.started = time.Now()
	if m.serve {
		return m.serving(command.Context(), config)
	}
	return m.measure(command.Context(), config, reportFile)
}

// measure brings the peers together and tells what was measured, also until a row could not be kept.
func (m *measuring) measure(ctx context.Context, config latency.Config, file io.Writer) error {
	m.view = report.NewView(m.w.stderr, m.w.terminal, m.title(config))
	config.Observe = m.observe
	tally, err := latency.Run(ctx, config)
	m.view.End()
	if err := errors.Join(err, m.conclude(ctx, config, file)); err != nil {
		return err
	}
	switch done := tally.Complete; {
	case tally.Complete == tally.Introductions:
		return nil
	case ctx.Err() != nil:
		return interruption{said: fmt.Sprintf("interrupted; %d of %s were complete until then", done, count(tally.Introductions, "introduction"))}
	default:
		return fmt.Errorf("%d of %s failed", tally.Introductions-done, count(tally.Introductions, "introduction"))
	}
}

// config turns the flags into what is measured.
func (m *measuring) config(ctx context.Context) (latency.Config, error) {
	config := latency.Config{
		N: m.introductions.n, Parallel: m.parallel.n, Contents: m.contents.n,
		Size: int64(m.size), PieceLength: int64(m.pieceLength), Dictionaries: m.dictionaries,
		Flow: timeline.Flow(m.flow), Seed: m.seed.value(), Scenario: m.scenario, Timeout: m.timeout, Row: m.row,
	}
	for _, name := range m.without {
		cut := client.Cut(name)
		if !slices.ContainsFunc(client.Cuts, func(known client.NamedCut) bool { return known.Cut == cut }) {
			return config, wrongUsage("--without: there is no %q; there is %s", name, cutsHelp())
		}
		if !slices.Contains(config.Without, cut) {
			config.Without = append(config.Without, cut)
		}
	}
	if m.scenario == "" && len(config.Without) > 0 {
		config.Scenario = "without " + names(config.Without) // nothing else in a row tells it
	}
	fetching := len(m.link) > 0 || m.links != ""
	switch {
	case config.Flow != timeline.Fast && config.Flow != timeline.Prototype:
		return config, wrongUsage("there is no flow %q: fast or prototype", m.flow)
	case config.Flow == timeline.Prototype && len(config.Without) > 0:
		return config, wrongUsage("--without leaves out what the flow fast saves, and the prototype saves nothing")
	case m.timeout <= 0:
		return config, wrongUsage("--timeout must be more than 0")
	case len(m.scenario) > timeline.MaxText:
		return config, wrongUsage("--scenario has more than %d bytes", timeline.MaxText)
	case m.serve && fetching:
		return config, wrongUsage("--serve only serves, and --link and --links only fetch: two processes are needed")
	case m.serve && m.json != "":
		return config, wrongUsage("--serve measures no introductions: --json is for those who fetch")
	}
	if fetching {
		lines, err := m.readLinks(ctx)
		if err != nil {
			return config, err
		}
		for i := range lines {
			if len(lines[i].Mediators) == 0 && len(m.mediators) == 0 {
				lines[i].Mediators = []string{defaultMediator}
			}
		}
		config.Lines, config.Mediators = lines, m.mediators
		return config, nil
	}
	config.Mediators = m.mediators.or()
	if config.N == 0 {
		config.N = defaultIntroductions
	}
	checked := config
	if m.serve {
		checked.Parallel = config.N // all are served together
	}
	if err := checked.Check(); err != nil {
		return config, usageError{err}
	}
	return config, nil
}

// readLinks reads whom leechers are introduced to.
func (m *measuring) readLinks(ctx context.Context) (lines []latency.Line, err error) {
	for _, text := range m.link {
		line, err := latency.ParseLine(text)
		if err != nil {
			return nil, usageError{err}
		}
		lines = append(lines, line)
	}
	if m.links == "" {
		return lines, nil
	}
	in := m.w.stdin
	if m.links != standard {
		file, err := os.Open(m.links)
		if err != nil {
			return nil, fmt.Errorf("reading the links: %w", err)
		}
		defer file.Close()
		in = file
	}
	type result struct {
		lines []latency.Line
		err   error
	}
	read := make(chan result, 1) // standard input cannot be interrupted: then it is left behind
	go func() {
		lines, err := latency.ReadLines(in, m.introductions.n)
		read <- result{lines, err}
	}()
	select {
	case r := <-read:
		if lines = append(lines, r.lines...); r.err == nil && len(lines) == 0 {
			return nil, errors.New("there are no links to fetch by")
		}
		return lines, r.err
	case <-ctx.Done():
		return nil, interruption{}
	}
}

// create begins a file; none for no name.
func create(name string) (*os.File, error) {
	switch name {
	case "":
		return nil, nil
	case standard:
		return nil, wrongUsage("a file is needed: standard output is for the table that people read")
	}
	file, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("keeping what is measured: %w", err)
	}
	return file, nil
}

// finish closes a file that was written, if there is one, and adds what is wrong with that.
func finish(file *os.File, err *error) {
	if file == nil {
		return
	}
	if wrong := file.Close(); wrong != nil {
		*err = errors.Join(*err, fmt.Errorf("keeping what is measured: %w", wrong))
	}
}

// title says what is measured.
func (m *measuring) title(config latency.Config) string {
	what := fmt.Sprintf("%s of %s", count(config.N, "introduction"), size(config.Size))
	if config.Lines != nil {
		what = count(len(config.Lines), "introduction")
	}
	return fmt.Sprintf("%s, flow %s, seed %d", what, config.Flow, config.Seed)
}

// row is for latency.Config.
func (m *measuring) row(row *timeline.Row) error {
	m.rows = append(m.rows, row)
	if m.table == nil {
		return nil
	}
	return m.table.Write(row)
}

// observe is for latency.Config.
func (m *measuring) observe(p latency.Progress) {
	if p.Ended != nil {
		m.view.Ended(p.Ended, p.Complete, p.Failed, p.Introductions)
	} else {
		m.view.Began(p.Began, p.Complete, p.Failed, p.Introductions)
	}
}

// serving is --serve.
func (m *measuring) serving(ctx context.Context, config latency.Config) error {
	fmt.Fprintf(m.w.stderr, "%s of %s, seed %d\n", count(config.N, "seeder"), size(config.Size), config.Seed)
	config.Row = func(row *timeline.Row) error {
		if row.Outcome != timeline.Done {
			fmt.Fprintf(m.w.stderr, "seeder %d, content %d: %s (%s)\n", row.Index, row.Content, row.Error, row.ErrorCode)
		}
		return m.row(row)
	}
	return latency.Serve(ctx, config, func(line string) error {
		_, err := fmt.Fprintln(m.w.stdout, line)
		return err
	})
}

// conclude prints the table, keeps the report and draws the pictures.
func (m *measuring) conclude(ctx context.Context, config latency.Config, file io.Writer) error {
	groups := report.Summarize(m.rows)
	if m.json != "" {
		told := report.Report{
			StartedAt: m.started, Environment: report.ThisEnvironment(), Versions: report.Versions(options.Version(version)),
			Seed: config.Seed, Arguments: m.w.args, Interrupted: ctx.Err() != nil, Introductions: m.rows, Summary: groups,
		}
		if err := told.Write(file); err != nil {
			return errors.Join(err, m.show(groups))
		}
	}
	return m.show(groups)
}

// show prints the table and draws the pictures.
func (m *measuring) show(groups []*report.Group) error {
	if err := report.Table(m.w.stdout, groups, m.rtt); err != nil {
		return fmt.Errorf("printing the table: %w", err)
	}
	if m.svg+m.png == "" {
		return nil
	}
	pictures := draw.Pictures(groups, m.rtt)
	if len(pictures) == 0 {
		fmt.Fprintln(m.w.stderr, "there is nothing to draw: no leecher's introduction is complete")
		return nil
	}
	for format, folder := range map[draw.Format]string{draw.SVG: m.svg, draw.PNG: m.png} {
		if folder == "" {
			continue
		}
		files, err := draw.Save(pictures, folder, format)
		if err != nil {
			return err
		}
		fmt.Fprintf(m.w.stderr, "%s in %s\n", count(len(files), "picture"), folder)
	}
	return nil
}

// drawing is --draw: what earlier runs measured, all together. Of a file with errors, what stands before the first one counts.
func (m *measuring) drawing(command *cobra.Command) error {
	idle := "" // the first flag that is for measuring
	command.Flags().Visit(func(flag *pflag.Flag) {
		if idle == "" && !slices.Contains([]string{"draw", "svg", "png", "rtt"}, flag.Name) {
			idle = flag.Name
		}
	})
	if idle != "" {
		return wrongUsage("--draw measures nothing, so that --%s has no meaning beside it", idle)
	}
	var rows []*timeline.Row
	var problems []error
	for _, name := range m.draw {
		found, err := readTable(name)
		rows = append(rows, found...)
		var broken *timeline.Error
		switch {
		case errors.As(err, &broken):
			problems = append(problems, fmt.Errorf("%s: %w; %s before that count", name, err, count(len(found), "row")))
		case err != nil:
			problems = append(problems, fmt.Errorf("reading what was measured: %w", err))
		}
	}
	if err := m.show(report.Summarize(rows)); err != nil {
		return err
	}
	return errors.Join(problems...)
}

func readTable(name string) ([]*timeline.Row, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return timeline.ReadAll(file)
}

// contentSize is the value of --size.
type contentSize int64

func (s *contentSize) String() string { return strconv.FormatInt(int64(*s), 10) }
func (s *contentSize) Type() string   { return "bytes" }
func (s *contentSize) Set(text string) error {
	parts := ratePattern.FindStringSubmatch(strings.TrimSuffix(text, "/s"))
	if parts == nil {
		return fmt.Errorf("%q is no length, such as 200000, 200kB or 1MiB", text)
	}
	n, err := strconv.ParseFloat(parts[1], 64)
	if n *= rateUnits[strings.ToUpper(parts[2])]; err != nil || n > math.MaxInt32 {
		return fmt.Errorf("%q is too much", text)
	}
	*s = contentSize(n)
	return nil
}

// seedNumber is the value of --seed.
type seedNumber struct {
	n   uint64
	set bool
}

func (s *seedNumber) String() string { return "" }
func (s *seedNumber) Type() string   { return "number" }
func (s *seedNumber) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 53)
	if err != nil {
		return fmt.Errorf("%q is no number from 0 to 2^53-1", text)
	}
	*s = seedNumber{n, true}
	return nil
}

// value returns the number, a random one where none was set.
func (s *seedNumber) value() uint64 {
	if !s.set {
		*s = seedNumber{rand.Uint64N(timeline.MaxNumber + 1), true}
	}
	return s.n
}
