// Package simulation is a network of mediators in memory.
package simulation
