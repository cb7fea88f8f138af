package plan

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Describe writes the plan for people: the hosts with their links, the round trips that follow from them, and what is run.
func (p *Plan) Describe(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s, seed %d\n\n", p.Name, p.Seed)
	fmt.Fprintln(w, "host\tlink\tdelay\tjitter\tloss\tup\tdown\tNAT\truns")
	for _, h := range p.Hosts {
		runs := "peers"
		if h.Mediator != nil {
			runs = strings.Join(append([]string{"a mediator"}, h.Mediator.Args...), " ")
			if len(h.Mediator.Bootstrap) > 0 {
				runs += " that joins " + strings.Join(h.Mediator.Bootstrap, ", ")
			}
		}
		l := h.Link
		fmt.Fprintf(w, "%s\t%s\t%v\t%v\t%v %%\t%s\t%s\t%s\t%s\n", h.Name, l.Name, l.Delay, l.Jitter, 100*l.Loss,
			rates.write(float64(l.Up)), rates.write(float64(l.Down)), h.NAT, runs)
	}
	fmt.Fprintln(w, "\nrun\twhat\tn\tround trip of the peers\thow")
	for _, r := range p.Runs {
		if r.What == Ping {
			fmt.Fprintf(w, "%s\t%s\t%d\t\tbetween all hosts\n", r.Name, r.What, r.N)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%v\t%s\n", r.Name, r.What, r.N, p.RoundTrip(r.Seeder, r.Leecher), r.describe())
	}
	if len(p.Musts) > 0 {
		fmt.Fprintln(w, "\nmust\trun\tfrom → to\tat most\tmoonshot")
	}
	for _, m := range p.Musts {
		against, moonshot := "", "–"
		if m.Against != "" {
			against = " of " + m.Against
		}
		if m.Moonshot != nil {
			moonshot = m.Moonshot.String() + against
		}
		fmt.Fprintf(w, "%s\t%s\t%s → %s\t%s%s\t%s\n", m.What, m.Run, m.From, m.To, m.AtMost, against, moonshot)
	}
	return w.Flush()
}

// describe says how a run is done, in a line.
func (r *Run) describe() string {
	words := []string{fmt.Sprintf("%s at %s → %s at %s", r.Seeder, r.Mediators[0], r.Leecher, r.Mediators[len(r.Mediators)-1])}
	if r.Contents > 0 {
		words = append(words, fmt.Sprintf("%d × %s", r.Contents, sizes.write(float64(r.Size))))
		if r.Piece > 0 {
			words = append(words, "pieces of "+sizes.write(float64(r.Piece)))
		}
	}
	switch {
	case r.Browser != "":
		words = append(words, string(r.Browser))
		words = append(words, r.Flags...)
		if r.MDNS {
			words = append(words, "mDNS")
		}
		if !r.STUN {
			words = append(words, "no STUN")
		}
	case r.What == Go:
		words = append(words, string(r.Flow)+" flow")
	}
	if len(r.Without) > 0 {
		words = append(words, "without "+strings.Join(r.Without, ", "))
	}
	if r.Fresh {
		words = append(words, "mediators started anew each time")
	}
	if r.Kill != "" {
		words = append(words, fmt.Sprintf("the mediator of %s is killed after %v", r.Kill, r.KillAfter))
	}
	if r.Expect != ExpectComplete {
		words = append(words, "expected: "+string(r.Expect))
	}
	return strings.Join(words, ", ")
}
