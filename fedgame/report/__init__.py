"""What a command shows of a finished run, from the files of its directory alone.

text     Markdown tables and sentences
figures  figures
tables   rows of files, grouped, as columns of numbers, and as Markdown
scales   the four p-means of a comparison, as columns of files and as rows
"""
