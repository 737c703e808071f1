"""What a command shows of a finished run, from the files of its directory alone.

answers  the answer in sentences, how sure it is, what is assumed, what words mean
money    amounts and numbers as people read them
text     what is printed: the answer and Markdown tables
page     the same as one HTML file
figures  figures
tables   rows of files, grouped, as columns of numbers, and as Markdown
scales   the four p-means of a comparison, as columns of files and as rows
"""
