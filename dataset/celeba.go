package dataset

import (
	"bytes"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The lists of CelebA (Liu et al. 2015) and of CelebAMask-HQ (Lee et al. 2020).
const (
	celebaAttributes   = "list_attr_celeba.txt"
	celebaPartition    = "list_eval_partition.txt"
	celebaHQAttributes = "CelebAMask-HQ-attribute-anno.txt"
	celebaHQMapping    = "CelebA-HQ-to-CelebA-mapping.txt"
)

// celebaSize is the size that images are brought to where none is asked for.
const celebaSize = 64

// attributeNames are the classes: without the attribute, and with it.
func attributeNames(o Options) []string {
	name := o.Attribute
	if name == "" {
		name = "Male"
	}
	return []string{"not-" + name, name}
}

// openCelebA reads a split of CelebA or CelebA-HQ, whose classes are without and
// with an attribute. Images are cut to their central square (CelebA: 178 of 178
// x 218 pixels) and brought to o.Size, 64 where it is zero. CelebA-HQ has a test
// split where its mapping to CelebA and CelebA's partition lie beside it; all of
// it is for training where they do not.
func openCelebA(dir string, format Format, o Options) (*Set, error) {
	list, folders := celebaAttributes, []string{"img_align_celeba", filepath.Join("img_align_celeba", "img_align_celeba"), filepath.Join("Img", "img_align_celeba")}
	if format == CelebAHQ {
		list, folders = celebaHQAttributes, []string{"CelebA-HQ-img"}
	}
	names := attributeNames(o)
	attributes, err := o.readList(dir, format, list)
	if err != nil {
		return nil, err
	}
	rows, bad := parseAttributes(attributes.data, names[1])
	if bad != nil {
		bad.Path = attributes.path
		return nil, bad
	}
	inSplit, err := o.celebaSplit(dir, format)
	if err != nil {
		return nil, err
	}
	// The innermost folder that is there: one unpacker makes two of one.
	folder := ""
	for _, f := range folders {
		if at := filepath.Join(dir, f); exists(at) {
			folder = at
		}
	}
	if folder == "" {
		return nil, invalid(dir, "unpack the images there", "has no folder %s", folders[0])
	}
	var files []pictureFile
	for _, row := range rows {
		if !inSplit(row.name) {
			continue
		}
		path := filepath.Join(folder, row.name)
		if png := strings.TrimSuffix(path, ".jpg") + ".png"; !exists(path) && exists(png) {
			path = png // As its second edition has them.
		}
		files = append(files, pictureFile{path, row.label})
	}
	size := o.Size
	if size == 0 {
		size = celebaSize
	}
	return shrink(dir, files, size, names, o)
}

type listFile struct {
	path string
	data []byte
}

// readList finds and reads a list, wherever the archives put it.
func (o Options) readList(dir string, format Format, name string) (*listFile, error) {
	for _, at := range []string{dir, filepath.Join(dir, "Anno"), filepath.Join(dir, "Eval")} {
		path := filepath.Join(at, name)
		if !isFile(path) {
			continue
		}
		data, err := o.readPublished(path, format, maxPublished)
		if err != nil {
			return nil, err
		}
		return &listFile{path, data}, nil
	}
	return nil, invalid(dir, "put the published list there", "has no %s", name)
}

// celebaSplit returns what tells the images of the split.
func (o Options) celebaSplit(dir string, format Format) (func(name string) bool, error) {
	if format == CelebAHQ && !exists(filepath.Join(dir, celebaPartition)) {
		if o.Split == Test {
			return nil, invalid(dir, "put "+celebaHQMapping+" and CelebA's "+celebaPartition+" there", "nothing says which images are for testing")
		}
		return func(string) bool { return true }, nil
	}
	list, err := o.readList(dir, CelebA, celebaPartition)
	if err != nil {
		return nil, err
	}
	part, bad := parsePartition(list.data)
	if bad != nil {
		bad.Path = list.path
		return nil, bad
	}
	wanted := byte('0')
	if o.Split == Test {
		wanted = '2'
	}
	if format == CelebA {
		return func(name string) bool { return part[name] == wanted }, nil
	}
	mapping, err := o.readList(dir, CelebAHQ, celebaHQMapping)
	if err != nil {
		return nil, err
	}
	original, bad := parseMapping(mapping.data)
	if bad != nil {
		bad.Path = mapping.path
		return nil, bad
	}
	return func(name string) bool { return part[original[strings.TrimSuffix(name, ".jpg")]] == wanted }, nil
}

type attributeRow struct {
	name  string
	label int // 1 with the attribute.
}

// parseAttributes reads a list of attributes: their number of images, their
// names, and for each image its name and 1 or -1 for each attribute. Errors name
// lines by their number only.
func parseAttributes(data []byte, attribute string) ([]attributeRow, *Error) {
	var rows []attributeRow
	column, columns, number := -1, 0, 0
	for line := range bytes.Lines(data) {
		number++
		switch number {
		case 1: // The number of images, which the lines below tell again.
			if _, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 10, 32); err != nil {
				return nil, invalid("", "the file is of another kind", "line 1 is not the number of images")
			}
			continue
		case 2:
			names := strings.Fields(string(line))
			columns = len(names)
			if column = slices.Index(names, attribute); column < 0 {
				return nil, invalid("", "choose one that line 2 names (data.attribute)", "has no attribute %q", attribute)
			}
			continue
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		name, value, fields := fieldsOf(line, column+1)
		if fields != columns+1 || !safeName(name) {
			return nil, invalid("", "the file is damaged", "line %d is not the name of an image and %d numbers", number, columns)
		}
		switch value {
		case "1":
			rows = append(rows, attributeRow{name, 1})
		case "-1", "0":
			rows = append(rows, attributeRow{name, 0})
		default:
			return nil, invalid("", "the file is damaged", "line %d has a value that is neither 1 nor -1", number)
		}
	}
	if len(rows) == 0 {
		return nil, invalid("", "the file was cut", "names no images")
	}
	return rows, nil
}

// fieldsOf returns the first field of a line and the one at a place, and how
// many there are, without memory for the others.
func fieldsOf(line []byte, at int) (first, wanted string, n int) {
	for field := range bytes.FieldsSeq(line) {
		if n == 0 {
			first = string(field)
		}
		if n == at {
			wanted = string(field)
		}
		n++
	}
	return first, wanted, n
}

// safeName says whether a name from a list stays in its folder.
func safeName(name string) bool {
	return name != "" && len(name) <= 100 && !strings.ContainsAny(name, "/\\\x00") && name != "." && name != ".."
}

// parsePartition reads which part each image belongs to: '0' training, '1'
// validation, '2' test.
func parsePartition(data []byte) (map[string]byte, *Error) {
	out := map[string]byte{}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		name, part, fields := fieldsOf(line, 1)
		if fields != 2 || !safeName(name) || len(part) != 1 || part[0] < '0' || part[0] > '2' {
			return nil, invalid("", "the file is damaged", "line %d is not the name of an image and 0, 1 or 2", number)
		}
		out[name] = part[0]
	}
	return out, nil
}

// parseMapping reads which image of CelebA each of CelebA-HQ was made of: a
// heading, then number, number there, and file there.
func parseMapping(data []byte) (map[string]string, *Error) {
	out := map[string]string{}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		line = bytes.TrimSpace(line)
		if number == 1 || len(line) == 0 {
			continue
		}
		name, file, fields := fieldsOf(line, 2)
		if fields != 3 || !safeName(name) || !safeName(file) {
			return nil, invalid("", "the file is damaged", "line %d is not two numbers and the name of an image", number)
		}
		out[name] = file
	}
	return out, nil
}
