"""Models, made of the functions of the topics: `dgm_utils/<topic>.py` holds the body of what its
lesson is about, and models import it. No topic imports a model; `densities.py` is beneath both.
"""
