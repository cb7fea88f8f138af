//go:build !linux

package main

import (
	"context"
	"fmt"
	"io"

	"p2pcdn/scripts/lab/plan"
)

// do cannot be done here.
func (*options) do(_ context.Context, _ *plan.Plan, _ string, _, stderr io.Writer) int {
	fmt.Fprintln(stderr, "lab: it needs Linux, whose network namespaces the hosts are; --check works here too")
	return exitUsage
}
