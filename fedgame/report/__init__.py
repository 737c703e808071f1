"""What is seen of a finished run, from the files of its directory alone.

text     Markdown tables and sentences
figures  pictures
"""
