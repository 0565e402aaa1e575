"""Small versions of the papers' experiments on a real model: is the shape of their figures found on this machine?"""
