package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/wire"
	"p2pcdn/peer/rtc"
)

// streamed is a download from one seeder whose uplink is limited, with a reader.
type streamed struct {
	data    []byte
	share   *Share
	target  *memoryTarget
	leecher *Client
	seeder  *Client
}

// stream begins one: of the content's info as it is, or of its link alone.
func stream(t *testing.T, hub *hub, connect func(rtc.Peering) Conn, length int, bare bool, upload int64) *streamed {
	data, source := random(length)
	seeder := newPeer(t, Config{Line: hub.line(), Connect: connect, UploadLimit: upload})
	if _, err := seeder.Seed(source); err != nil {
		t.Fatal(err)
	}
	leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
	info := source.info
	if bare {
		info = info.Link().Info()
	}
	target := newTarget(info)
	share, err := leecher.Get(info, target)
	if err != nil {
		t.Fatal(err)
	}
	return &streamed{data: data, share: share, target: target, leecher: leecher, seeder: seeder}
}

func (s *streamed) close() {
	s.leecher.Close()
	s.seeder.Close()
}

// What is read while it comes is the content, in whatever way it is read, also by a link alone.
func TestReadersReadTheContent(t *testing.T) {
	for name, bare := range map[string]bool{"with piece hashes": false, "of a link": true} {
		for _, length := range []int{0, 1, 20_000, 65536, 65537, contentLength} {
			t.Run(fmt.Sprint(length, " bytes ", name), func(t *testing.T) {
				bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
					s := stream(t, hub, connect, length, bare, 1e6)
					reader := s.share.NewReader()
					if got, err := io.ReadAll(reader); err != nil || !bytes.Equal(got, s.data) {
						t.Errorf("%d bytes came, %v", len(got), err)
					}
					if length <= 20_000 { // byte by byte, and from everywhere
						if _, err := reader.Seek(0, io.SeekStart); err != nil {
							t.Fatal(err)
						}
						if err := iotest.TestReader(reader, s.data); err != nil {
							t.Error(err)
						}
					}
					finish(t, s.share)
					if got, err := io.ReadAll(io.NewSectionReader(reader, 0, int64(length))); err != nil || !bytes.Equal(got, s.data) {
						t.Errorf("%d bytes of what is complete, %v", len(got), err)
					}
					if err := reader.Close(); err != nil {
						t.Error(err)
					}
					s.close()
				})
			})
		}
	}
}

// A source can be read, too.
func TestReadersOfASource(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		data, source := random(contentLength)
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
		share, err := seeder.Seed(source)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(share.NewReader()); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes came, %v", len(got), err)
		}
		seeder.Close()
	})
}

// A reader that jumps gets what it wants next, not what came before.
func TestAReaderThatJumpsIsServedFirst(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		const length, upload = 32 << 20, 2_000_000
		s := stream(t, hub, connect, length, false, upload)
		reader := s.share.NewReader()
		buffer := make([]byte, 100_000)
		for _, at := range []int64{0, length - 100_000, length / 2, 5_000_000} {
			if _, err := reader.Seek(at, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if _, err := io.ReadFull(reader, buffer); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(buffer, s.data[at:at+int64(len(buffer))]) {
				t.Errorf("other data at %d", at)
			}
			// What was asked for before comes first, up to 0.6 s of it; then a piece or three.
			if took := time.Since(began); took > time.Second {
				t.Errorf("at %d the reader waited for %v", at, took)
			}
		}
		// In order from there on: the reader keeps up with the network.
		began := time.Now()
		const run = 8 << 20
		if _, err := io.CopyN(io.Discard, reader, run); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began).Seconds(); took > 1.2*run/upload {
			t.Errorf("%d bytes in a row took %.2f s", run, took)
		}
		reader.Close()
		s.close()
	})
}

func TestSeveralReaders(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		s := stream(t, hub, connect, 4<<20, true, 2e6)
		var readers sync.WaitGroup
		for i := range 5 {
			readers.Go(func() {
				reader := s.share.NewReader()
				defer reader.Close()
				begin := int64(i) * 700_000
				if _, err := reader.Seek(begin, io.SeekStart); err != nil {
					t.Error(err)
				}
				got, err := io.ReadAll(reader)
				if err != nil || !bytes.Equal(got, s.data[begin:]) {
					t.Errorf("reader %d got %d bytes and %v", i, len(got), err)
				}
			})
		}
		readers.Wait()
		s.leecher.do(func() {
			if len(s.share.readers) != 0 || len(s.share.waiting) != 0 {
				t.Errorf("%d readers and %d pieces are still remembered", len(s.share.readers), len(s.share.waiting))
			}
		})
		s.close()
	})
}

// Places that are not there are refused, and the reader stays where it was.
func TestPlacesOfAReader(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		s := stream(t, hub, connect, 100_000, false, 0)
		reader := s.share.NewReader()
		at := func(want int64, offset int64, whence int) {
			t.Helper()
			if got, err := reader.Seek(offset, whence); err != nil || got != want {
				t.Errorf("Seek(%d, %d) went to %d, %v", offset, whence, got, err)
			}
		}
		at(99_990, -10, io.SeekEnd)
		at(99_995, 5, io.SeekCurrent)
		for _, bad := range []struct {
			offset int64
			whence int
		}{{-1, io.SeekStart}, {-100_001, io.SeekEnd}, {-99_996, io.SeekCurrent}, {0, 3}} {
			if _, err := reader.Seek(bad.offset, bad.whence); err == nil {
				t.Errorf("Seek(%d, %d) passed", bad.offset, bad.whence)
			}
		}
		if rest, err := io.ReadAll(reader); err != nil || len(rest) != 5 {
			t.Errorf("%d bytes, %v", len(rest), err)
		}
		at(200_000, 200_000, io.SeekStart)
		if n, err := reader.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("behind the end: %d, %v", n, err)
		}
		buffer := make([]byte, 20)
		if n, err := reader.ReadAt(buffer, 99_990); n != 10 || err != io.EOF {
			t.Errorf("across the end: %d, %v", n, err)
		}
		if n, err := reader.ReadAt(buffer, -1); n != 0 || err == nil || err == io.EOF {
			t.Errorf("before the beginning: %d, %v", n, err)
		}
		if n, err := reader.ReadAt(nil, 5); n != 0 || err != nil {
			t.Errorf("nothing: %d, %v", n, err)
		}
		s.close()
	})
}

// A reader that waits ends with its share, and says why.
func TestReadersEndWithTheShare(t *testing.T) {
	for _, test := range []struct {
		name  string
		end   func(s *streamed, r *Reader)
		want  error
		never error // what it must not be
	}{
		{"it is closed", func(_ *streamed, r *Reader) { r.Close(); r.Close() }, fs.ErrClosed, ErrStopped},
		{"the share is stopped", func(s *streamed, _ *Reader) { s.share.Stop() }, ErrStopped, ErrClosed},
		{"the share is discarded", func(s *streamed, _ *Reader) { s.share.Discard() }, ErrStopped, ErrClosed},
		{"the disk is full", func(s *streamed, _ *Reader) {
			s.target.mu.Lock()
			s.target.full = 0
			s.target.mu.Unlock()
		}, errFull, ErrStopped},
		{"the client is closed", func(s *streamed, _ *Reader) { s.leecher.Close() }, ErrClosed, ErrStopped},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
				s := stream(t, hub, connect, 4<<20, false, 100_000)
				reader := s.share.NewReader()
				ended := make(chan error, 1)
				go func() {
					_, err := io.Copy(io.Discard, reader)
					ended <- err
				}()
				time.Sleep(5 * time.Second) // of the bubble
				synctest.Wait()
				select {
				case err := <-ended:
					t.Fatalf("it ended early: %v", err)
				default:
				}
				began := time.Now()
				test.end(s, reader)
				if err := <-ended; !errors.Is(err, test.want) || errors.Is(err, test.never) {
					t.Errorf("it ended with %v", err)
				}
				if took := time.Since(began); took > 0 && (test.want != errFull || took > time.Second) { // when the next block comes
					t.Errorf("it ended after %v", took)
				}
				if n, err := reader.Read(make([]byte, 1)); n != 0 || !errors.Is(err, test.want) {
					t.Errorf("after the end: %d, %v", n, err)
				}
				s.close()
			})
		})
	}
}

// A reader of a link waits for the piece hashes, and for a peer.
func TestAReaderBeforeAnybodyIsThere(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		data, source := random(contentLength)
		leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
		info := source.info.Link().Info()
		share, err := leecher.Get(info, newTarget(info))
		if err != nil {
			t.Fatal(err)
		}
		reader := share.NewReader()
		read := make(chan []byte)
		go func() {
			all, err := io.ReadAll(reader)
			if err != nil {
				t.Error(err)
			}
			read <- all
		}()
		time.Sleep(time.Minute) // of the bubble
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
		if _, err := seeder.Seed(source); err != nil {
			t.Fatal(err)
		}
		if all := <-read; !bytes.Equal(all, data) {
			t.Errorf("%d bytes came", len(all))
		}
		reader.Close()
		leecher.Close()
		seeder.Close()
	})
}

// What is wrong is never read, whoever sends it.
func TestAReaderNeverSeesALie(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		data, source := random(contentLength)
		info := source.info
		liar := newStranger(hub.line(), connect, func(l *strangerLink, frame wire.Frame) {
			switch f := frame.(type) {
			case wire.Handshake:
				greet(info, l)
			case wire.Request:
				for _, block := range f.Blocks {
					l.send(wire.Piece{Number: 9, Piece: block.Piece, Begin: block.Begin, Data: make([]byte, block.Length)})
				}
			}
		}).start()
		liar.line.Announce(info.FullHash)
		leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
		share, err := leecher.Get(info, newTarget(info))
		if err != nil {
			t.Fatal(err)
		}
		reader := share.NewReader()
		first := make(chan []byte)
		go func() {
			buffer := make([]byte, content.LeafLength)
			if _, err := io.ReadFull(reader, buffer); err != nil {
				t.Error(err)
			}
			first <- buffer
		}()
		synctest.Wait()
		select {
		case <-first:
			t.Error("it read what a liar sent")
		default:
		}
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
		if _, err := seeder.Seed(source); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(<-first, data[:content.LeafLength]) {
			t.Error("it read something else")
		}
		leecher.Close()
		seeder.Close()
		liar.end()
	})
}
