"""The live viewer: watch a fit, light its result, take it away.  Installed as `relight.viewer`; needs viser.

    content   what is shown: a stage folder, a splat file, a capture, the state of a fit
    display   how: mode, split, light; frozen, and as text for sharing
    painter   a content and a display to a picture, by the same code that fits and renders
    renderer  one thread that draws for every client: quickly first, better while nothing moves
    document  selection, edits, undo
    session   one client: its panel and what it asks for
    server    the web server, by viser; who may connect
    page      what the picture needs and viser has no control for: divider, address, thumbnails
    live      a fit that is watched: pause, progress, curves
    web       the page that needs no server

Modules import each other relatively, because the folder's name in the source tree is not that of the package.
"""
