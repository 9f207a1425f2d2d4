"""The live viewer: watch a fit, light its result, take it away.  Installed as `relight.viewer`; needs viser.

    content   what is shown: a splat or a mesh, of a stage folder or a file, a capture, the state of a fit
    display   how: mode, split, light; frozen, and as text for sharing
    painter   a content and a display to a picture, by the code that fits and renders: splat_painter, mesh_painter;
              split has the divider, photos what pictures are compared with
    renderer  one thread that draws for every client: quickly first, better while nothing moves
    document  edits of a splat, undo
    session   one client: what it asks for and is sent; viewpoint is its camera, selection what it has selected, panel
              its controls
    server    the web server, by viser; who may connect
    page      what the picture needs and viser has no control for: divider, address, thumbnails
    live      a fit that is watched: pause, progress, curves
    web       the page that needs no server

Modules import each other relatively, because the folder's name in the source tree is not that of the package.
"""
