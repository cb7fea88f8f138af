package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"p2pcdn/peer/client"
)

func infoCommand(w world, mediators *mediatorList) *cobra.Command {
	var pieceLength byteSize
	var link bool
	command := &cobra.Command{
		Use:   "info FILE",
		Short: "Print a file's info dictionary or link, and serve nothing",
		Long: `info hashes a file and prints its info dictionary as JSON: what another peer, or
a web page, needs to know to fetch it. With --link it prints the link instead.`,
		Example: `  peer info holiday.mp4 > holiday.json
  peer info --link holiday.mp4
  peer info --link --mediator wss://mediator.example/mediation holiday.mp4`,
		Args: arguments(1, 1, "info takes one FILE"),
		RunE: func(command *cobra.Command, args []string) error {
			bar := newHashing(w, args[0])
			source, err := client.OpenFile(command.Context(), args[0], int64(pieceLength), bar.progress)
			bar.end()
			if err != nil {
				return err
			}
			defer source.Close()
			if link {
				_, err = fmt.Fprintln(w.stdout, source.Info().Link(*mediators...))
			} else {
				_, err = w.stdout.Write(source.Info().Encode())
			}
			return err
		},
	}
	command.Flags().BoolVarP(&link, "link", "l", false, "print the link; it names the mediators that are given with --mediator")
	pieceLengthFlag(command, &pieceLength)
	return command
}

func pieceLengthFlag(command *cobra.Command, value *byteSize) {
	command.Flags().VarP(value, "piece-length", "p", "length of a piece, a power of two from 16KiB (default: chosen by the file's length)")
	command.Flags().Lookup("piece-length").DefValue = "0" // so that help does not print it
}
