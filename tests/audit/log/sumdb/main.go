// A verifier made of golang.org/x/mod/sumdb, unmodified: is every entry of a log in the tree that was signed, and is
// each smaller tree its beginning?
//
//	go run . LOG
//
// Ours is only what differs between the Go checksum database and C2SP: the path of a tile has no height in it, and a
// checkpoint has another first line.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

type files string

func (folder files) Height() int                     { return height }
func (folder files) SaveTiles([]tlog.Tile, [][]byte) {}
func (folder files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
		data, err := os.ReadFile(filepath.Join(string(folder), path))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

// entries of the bundle that begins at a leaf.
func (folder files) entries(first, size int64) ([][]byte, error) {
	width := min(size-first, 1<<height)
	tile := tlog.Tile{H: height, L: 0, N: first >> height, W: int(width)}
	path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/0/", height), "tile/entries/", 1)
	data, err := os.ReadFile(filepath.Join(string(folder), path))
	var found [][]byte
	for err == nil && len(data) > 0 {
		length := int(binary.BigEndian.Uint16(data)) + 2
		found = append(found, data[2:length])
		data = data[length:]
	}
	return found, err
}

func verify(folder files) (tlog.Tree, error) {
	var tree tlog.Tree
	vkey, err := os.ReadFile(filepath.Join(string(folder), "log.vkey"))
	if err != nil {
		return tree, err
	}
	key, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil {
		return tree, err
	}
	signed, err := os.ReadFile(filepath.Join(string(folder), "checkpoint"))
	if err != nil {
		return tree, err
	}
	opened, err := note.Open(signed, note.VerifierList(key))
	if err != nil {
		return tree, err
	}
	_, rest, _ := strings.Cut(opened.Text, "\n")
	tree, err = tlog.ParseTree([]byte("go.sum database tree\n" + rest))
	if err != nil {
		return tree, err
	}
	hashes := tlog.TileHashReader(tree, folder) // checks each tile against the signed root
	for first := int64(0); first < tree.N; first += 1 << height {
		entries, err := folder.entries(first, tree.N)
		if err != nil {
			return tree, err
		}
		if int64(len(entries)) != min(tree.N-first, 1<<height) {
			return tree, fmt.Errorf("the bundle at %d has %d entries", first, len(entries))
		}
		for number, entry := range entries {
			index := first + int64(number)
			proof, err := tlog.ProveRecord(tree.N, index, hashes)
			if err != nil {
				return tree, err
			}
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)); err != nil {
				return tree, fmt.Errorf("entry %d: %w", index, err)
			}
		}
	}
	for size := int64(1); size <= tree.N; size = size*3/2 + 1 {
		root, err := tlog.TreeHash(size, hashes)
		if err != nil {
			return tree, err
		}
		proof, err := tlog.ProveTree(tree.N, size, hashes)
		if err != nil {
			return tree, err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, size, root); err != nil {
			return tree, fmt.Errorf("the tree of %d leaves: %w", size, err)
		}
	}
	return tree, nil
}

func main() {
	tree, err := verify(files(os.Args[1]))
	if err != nil {
		fmt.Println("NOT WHOLE:", err)
		os.Exit(1)
	}
	fmt.Printf("WHOLE: %d entries, root %v\n", tree.N, tree.Hash)
}
