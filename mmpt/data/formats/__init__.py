"""Formats of files that sources read: HTML, Markdown, tables of rows, tars, subtitles, video; and references to media."""
