//go:build !linux

package discovery

import "testing"

func again(t *testing.T) { t.Skip("it needs a network namespace of Linux") }
