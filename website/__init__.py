"""The course as a site: `python3 course.py site`.

pages/       what only the site has: its front page, its glossary, the page to try; Markdown, translated with the rest
gather.py    puts all pages of a language where Sphinx reads them
tables.py    pages from data: the catalog, the ladder, the front modules
tools.py     what the page to try gets: stored choices (choices.py makes them), merges, sizes
conf.py      Sphinx's settings, the glossary's links, diagrams
static/      the style, and the JavaScript of the page to try
links.py     no page reaches outside, and every link leads somewhere
build.py     all of it, for each language
"""
