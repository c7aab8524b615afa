"""Where weights come from and what they become: sources, files, conversion, templates, a learner's own folder."""
