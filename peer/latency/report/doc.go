// Package report makes numbers of measurements: rows of package timeline, of one run or of many, become percentiles with
// confidence intervals, as a table for people and as JSON for programs.
//
// # Percentiles
//
// A percentile of a sample is the order statistic at which the share of values that are not above it reaches p, or the middle between
// that one and the next where it is p exactly: type 2 of Hyndman and Fan ("Sample Quantiles in Statistical Packages", The American
// Statistician 50(4), 1996), "averaged_inverted_cdf" in NumPy. It is the usual median, and always within its interval.
//
// Its interval holds the percentile of the whole with at least 95 % confidence, whatever the distribution: its ends are two
// order statistics. Of n values, the number of those below the p-quantile is binomial (n, p); the lower end is
// the highest order statistic that is above the quantile with a probability of 2.5 % at most, the upper end likewise. (Hahn and
// Meeker, "Statistical Intervals", 1991, section 5.2; Le Boudec, "Performance Evaluation of Computer and Communication Systems",
// 2010, theorem 2.1.) Where there are too few values for an end it is missing: the median
// needs 6 for both, the 90th percentile 36, the 99th 368. It supposes that the values are independent, as fresh peers are,
// as far as the network lets them be.
//
// # What is counted
//
// Rows go together that have scenario, flow, endpoint, role, mediators, content_bytes and content in common. Times are those of the rows that are
// complete: a failure has no time, and is counted beside them. A step is the time since the phase that
// was reached before in the same row, by the clock and not by the list, so that the steps of a row add up to its whole. A
// seeder waits for an offer until somebody comes: offer_received has no times, and what comes after it has steps alone.
//
// # JSON
//
// One object:
//
//	schema         the version of this description: 1
//	started_at     when the run began (RFC 3339)
//	environment    go, os, arch, kernel, cpu: texts, "" where they are not known; cores: a number
//	versions       peer, and the version of each module that makes a connection: a text by the module's path
//	seed           of the run
//	arguments      of the command line
//	interrupted    whether it was ended before it was done
//	introductions  the rows: objects with the fields of the table (package timeline), numbers as numbers; phases is an object of
//	               milliseconds, without those that were not reached
//	summary        one object for each group of rows: scenario, flow, endpoint, role, mediators, content_bytes, content;
//	               complete, failed, skipped: how many; errors: how many by error_code;
//	               phases: in the order of their medians, objects with phase and, where there are times, since_started,
//	               since_mediator_open and step: n, and p50, p90, p99: value, low and high in
//	               milliseconds, low and high being the ends of the interval, or null
package report
