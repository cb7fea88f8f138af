// Package draw makes pictures of measurements, as SVG and as PNG. It is the only room that knows gonum.org/v1/plot, which
// draws both without a browser, a display or any other program.
//
// Of what leechers went through there is, for each group of rows (package report),
//
//	cdf-<group>     what share of all introductions had reached each phase after which time: those that failed, too, as far
//	                as they came, so that a curve ends below 1 where some never did
//	pairs-<group>   each introduction that is complete as a bar of its steps; some of them, evenly chosen by their length, where they are many
//
// and of all groups together
//
//	phases          a bar for each group: where its phases end in the median
//	complete        what share of each group was complete after which time; where there are several groups
//
// Times are milliseconds since started. Where the round trip of the network is known, multiples of it are drawn as lines.
//
// The colours of phases are those of Tol's muted scheme and two of Okabe and Ito's, which people with any colour vision tell
// apart (https://sronpersonalpages.nl/~pault/, https://jfly.uni-koeln.de/color/); dark and light ones take turns, and every
// curve has dashes of its own, so that they are told apart without colour, too.
package draw
