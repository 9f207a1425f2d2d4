"""Relighters scored where the truth is known: LumosBench's six attributes (UniLumos, arXiv 2511.01678), measured on
pictures of procedural scenes instead of judged by a language model, and what else the field reports.
"""
