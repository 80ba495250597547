package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// object is a JSON-LD object. Its keys come out sorted, which means nothing.
type object map[string]any

// croissantContext is the context that version 1.0 of the specification gives.
func croissantContext() object {
	c := object{"@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/",
		"cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/", "dct": "http://purl.org/dc/terms/",
		"conformsTo": "dct:conformsTo",
		"data":       object{"@id": "cr:data", "@type": "@json"},
		"examples":   object{"@id": "cr:examples", "@type": "@json"},
		"dataType":   object{"@id": "cr:dataType", "@type": "@vocab"},
	}
	for _, term := range []string{"citeAs", "column", "extract", "field", "fileProperty", "fileObject", "fileSet", "format", "includes",
		"isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated",
		"replace", "separator", "source", "subField", "transform"} {
		c[term] = "cr:" + term
	}
	return c
}

// writeCroissant describes the files, and the records of the Parquet file.
func (w *writer) writeCroissant() error {
	s := w.statement
	d := object{
		"@context": croissantContext(), "@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.0",
		"name": w.options.Name, "description": fmt.Sprintf("%d synthetic images %s, made with differential privacy. %s", w.Len(), w.kinds(), s.Guarantee),
		"datePublished": s.Created.UTC().Format(time.DateOnly), "version": "1.0.0", "isLiveDataset": false,
		"keywords":                         []string{"synthetic", "differential privacy", w.task()},
		"rai:personalSensitiveInformation": s.Guarantee,
		"rai:dataCollection":               "Drawn from a diffusion model that was fine-tuned on private images with differential privacy; see statement.md.",
	}
	if w.options.License != "" {
		d["license"] = "https://spdx.org/licenses/" + w.options.License
	}
	var files, records []any
	add := func(path, kind, about string) bool {
		f, ok := w.file(path)
		if ok {
			files = append(files, object{"@type": "cr:FileObject", "@id": path, "name": path, "contentUrl": path, "contentSize": fmt.Sprintf("%d B", f.Bytes),
				"encodingFormat": kind, "sha256": f.SHA256, "description": about})
		}
		return ok
	}
	add("statement.json", "application/json", "The guarantee, with all that it takes to recompute it.")
	add("ledger.jsonl", "application/jsonlines", "Every access to the private data.")
	ending, _ := w.side(0)
	for i := 0; add(shardName(i), "application/x-tar", "WebDataset shard: pairs of png and "+ending[1:]+"."); i++ {
	}
	if add(parquetFile, "application/x-parquet", "All images, each with its "+w.word()+".") {
		if !w.told() {
			records = append(records, w.labelRecords())
		}
		records = append(records, w.imageRecords())
	}
	d["distribution"], d["recordSet"] = files, records
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(d); err != nil {
		return err
	}
	return w.put("croissant.json", b.Bytes())
}

// task is what the data set is for.
func (w *writer) task() string {
	if w.told() {
		return "text to image"
	}
	return "image classification"
}

// labelRecords lists the classes.
func (w *writer) labelRecords() object {
	var data []any
	for i, name := range w.Classes {
		data = append(data, object{"labels/label": i, "labels/name": name})
	}
	return object{"@type": "cr:RecordSet", "@id": "labels", "name": "labels", "dataType": "sc:Enumeration", "key": object{"@id": "labels/label"},
		"field": []any{
			object{"@type": "cr:Field", "@id": "labels/label", "name": "label", "dataType": "sc:Integer"},
			object{"@type": "cr:Field", "@id": "labels/name", "name": "name", "dataType": []string{"sc:Text", "sc:name"}},
		}, "data": data}
}

// imageRecords says how the columns of the Parquet file are read.
func (w *writer) imageRecords() object {
	column := func(name string, transform object) object {
		source := object{"fileObject": object{"@id": parquetFile}, "extract": object{"column": name}}
		if transform != nil {
			source["transform"] = transform
		}
		return source
	}
	second := object{"@type": "cr:Field", "@id": "images/label", "name": "label", "dataType": "sc:Integer",
		"references": object{"field": object{"@id": "labels/label"}}, "source": column("label", nil)}
	if w.told() {
		second = object{"@type": "cr:Field", "@id": "images/text", "name": "text", "description": "Public prompt.", "dataType": "sc:Text",
			"source": column("text", nil)}
	}
	return object{"@type": "cr:RecordSet", "@id": "images", "name": "images", "field": []any{
		object{"@type": "cr:Field", "@id": "images/image", "name": "image", "description": "PNG.", "dataType": "sc:ImageObject",
			"source": column("image", object{"jsonPath": "bytes"})},
		second,
	}}
}
