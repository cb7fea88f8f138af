package latency

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"p2pcdn/common/content"
	"p2pcdn/common/timeline"
)

const (
	// announcing is how many seeders of Serve announce at a time: enough that thirty, far away, are there within
	// seconds, and few enough that none waits for what a mediator grants to one address.
	announcing = 8

	// MaxLines bounds the lines that are read, and maxLine each of them, in bytes: some hundred contents.
	MaxLines = timeline.MaxRows
	maxLine  = 1 << 20
)

// Serve starts config.N seeders, seeder i on mediator i modulo their number, with config.Contents contents each. For each that has announced all of
// its contents, say is handed one line that [ParseLine] reads, without its end. Then it serves until ctx ends. Its error is the first one of
// say or config.Row, or says how many seeders did not come to announce.
func Serve(ctx context.Context, config Config, say func(line string) error) error {
	config = config.withDefaults()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var telling sync.Mutex // of what is told
	var failures int       // guarded by telling
	var seeders sync.WaitGroup
	turn := make(chan struct{}, announcing)
	for index := 1; index <= config.N; index++ {
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		seeders.Go(func() {
			mediator := config.Mediators[(index-1)%len(config.Mediators)]
			seeder, err := startSeeder(ctx, &config, mediator, index)
			if err != nil {
				<-turn
				cancel(err)
				return
			}
			defer seeder.close()
			failure := seeder.announced(ctx, config.Timeout)
			<-turn
			telling.Lock()
			if failure != nil && failure.Code != CodeInterrupted {
				failures++
				if failures == config.N {
					cancel(&Failure{failure.Code, fmt.Errorf("nothing is served: %w", failure)})
				}
			}
			if err := seeder.tell(&config, mediator, index, failure, say); err != nil {
				cancel(err)
			}
			telling.Unlock()
			if failure == nil {
				<-ctx.Done()
			}
		})
	}
	<-ctx.Done()
	seeders.Wait()
	switch err := context.Cause(ctx); {
	case err != nil && !errors.Is(err, context.Canceled):
		return err
	case failures > 0:
		return fmt.Errorf("%d of %d seeders were not announced", failures, config.N)
	}
	return nil
}

// tell says of a seeder what others need to know, and its rows.
func (s *seeder) tell(config *Config, mediator string, index int, failure *Failure, say func(string) error) error {
	template := timeline.Row{
		Scenario: config.Scenario, Seed: config.Seed, Index: index, Flow: config.Flow, Endpoint: timeline.Go, Mediators: 1,
	}
	for i := range s.infos {
		if err := config.Row(s.row(template, i+1, failure)); err != nil {
			return err
		}
	}
	if failure != nil {
		return nil
	}
	var texts []string
	for _, info := range s.infos {
		if !config.Dictionaries {
			texts = append(texts, info.Link(mediator).String())
			continue
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, info.Encode()); err != nil {
			return err
		}
		texts = append(texts, compact.String())
	}
	return say(strings.Join(texts, " "))
}

// ParseLine reads what one leecher is to fetch: links, or info dictionaries as JSON, with white space between them.
func ParseLine(text string) (Line, error) {
	var line Line
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		decoder := json.NewDecoder(strings.NewReader(text))
		for {
			var raw json.RawMessage
			if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
				return line, nil
			} else if err != nil {
				return Line{}, fmt.Errorf("reading an info dictionary: %w", err)
			}
			info, err := content.ParseInfo(raw)
			if err != nil {
				return Line{}, err
			}
			line.Contents = append(line.Contents, info)
		}
	}
	for field := range strings.FieldsSeq(text) {
		link, err := content.ParseLink(field)
		if err != nil {
			return Line{}, err
		}
		line.Contents = append(line.Contents, link.Info())
		for _, mediator := range link.Mediators {
			if !slices.Contains(line.Mediators, mediator) {
				line.Mediators = append(line.Mediators, mediator)
			}
		}
	}
	if line.Contents == nil {
		return Line{}, errors.New("there is no link")
	}
	return line, nil
}

// ReadLines reads a line for each introduction, until there are most of them (0: as many as there are); empty ones are passed over.
func ReadLines(in io.Reader, most int) ([]Line, error) {
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, maxLine)
	var lines []Line
	for number := 1; (most == 0 || len(lines) < most) && scanner.Scan(); number++ {
		if strings.TrimSpace(scanner.Text()) == "" {
			continue
		}
		line, err := ParseLine(scanner.Text())
		if err != nil {
			return nil, fmt.Errorf("line %d of the links: %w", number, err)
		}
		if lines = append(lines, line); len(lines) > MaxLines {
			return nil, fmt.Errorf("more than %d lines of links", MaxLines)
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("reading the links: %w", err)
	}
	return lines, nil
}
