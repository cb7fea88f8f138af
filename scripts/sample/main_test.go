package main

import (
	"bufio"
	"bytes"
	"image/png"
	"math/rand/v2"
	"testing"
)

func TestDrawIsAPictureOfItsSize(t *testing.T) {
	var out bytes.Buffer
	if err := draw(bufio.NewWriter(&out), rand.New(rand.NewPCG(1, 2))); err != nil {
		t.Fatal(err)
	}
	// Several pieces of the smallest default length, so that a demonstration shows more than one.
	if out.Len() < 1<<20 {
		t.Errorf("the picture has only %d bytes", out.Len())
	}
	picture, err := png.Decode(&out)
	if err != nil {
		t.Fatal(err)
	}
	if size := picture.Bounds().Size(); size.X != width || size.Y != height {
		t.Errorf("the picture is %v large", size)
	}
}
