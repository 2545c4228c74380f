// The page of `harness demo`: one panel per model. Drawings and words are sent to the server as they change.

const PAPER = 280  // width of a sheet in the unit of strokes, independent of the screen
const PEN = 20  // in the same unit, for one figure: after scaling, as thick as in MNIST
const FIGURE = 28  // pixels of an image with one figure
const STEP = 10  // per arrow key
const PAUSE = 200  // milliseconds without a key press before a word is sent
const DOUBTFUL = 0.9  // less probable letters are highlighted

const percent = share => (share > 0.0005 || share === 0 ? (100 * share).toFixed(1) : '<0.1') + '%'

function fill(element, share) {
  element.querySelector('.share').textContent = share === undefined ? '' : percent(share)
  element.querySelector('.fill').style.transform = `scaleX(${share ?? 0})`
}

const copy = id => document.getElementById(id).content.firstElementChild.cloneNode(true)

/** Queries a model: one request at a time; of the changes meanwhile, only the newest is sent next. */
function asker(number, show) {
  let newest = null, busy = false
  return async make => {
    newest = make
    if (busy) return
    busy = true
    while (newest) {
      const content = await (make = newest, newest = null, make())
      if (content === null) continue
      try {
        const response = await fetch(`/models/${number}`, { method: 'POST', body: content })
        show(await response.json(), content)
        document.getElementById('gone').hidden = true
      } catch {
        document.getElementById('gone').hidden = false
      }
    }
    busy = false
  }
}

function drawingPanel(model, number) {
  const panel = copy('drawing')
  const sheet = panel.querySelector('.sheet'), bars = panel.querySelector('.bars')
  const [height, width] = model.image_shape.slice(-2)
  const tall = PAPER * height / width
  const labels = model.class_names ?? []
  const several = width > FIGURE, what = several ? 'Draw digits' : 'Draw a digit'
  panel.querySelector('h2').textContent = labels.every(label => /^\d$/.test(label)) ? what : 'Draw'
  sheet.style.aspectRatio = `${width} / ${height}`

  let strokes = []  // each a list of [x, y]
  let boxes = []  // of the last answer
  let pen = [PAPER / 2, tall / 3], pointer = null

  function trace(context) {
    Object.assign(context, { lineWidth: several ? PEN / 2 : PEN, lineCap: 'round', lineJoin: 'round' })
    for (const stroke of strokes) {
      context.beginPath()
      context.moveTo(...stroke[0])
      // Curves through the midpoints of the segments, with the points as control points.
      stroke.forEach(([x, y], i) => {
        const [nextX, nextY] = stroke[i + 1] ?? [x, y]
        context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2)
      })
      context.stroke()
    }
  }

  function paint() {
    const style = getComputedStyle(sheet), accent = style.getPropertyValue('--accent')
    sheet.width = sheet.clientWidth * devicePixelRatio
    sheet.height = sheet.clientHeight * devicePixelRatio
    const context = sheet.getContext('2d')
    context.scale(sheet.width / PAPER, sheet.height / tall)
    context.strokeStyle = style.color
    trace(context)
    const keys = document.activeElement === sheet && sheet.matches(':focus-visible')
    Object.assign(context, { lineWidth: 1.5, strokeStyle: accent, fillStyle: accent, font: '11px system-ui' })
    if (keys) context.strokeRect(pen[0] - 3, pen[1] - 3, 6, 6)
    for (const { label, probability, box: [left, top, right, bottom] } of boxes) {
      const [x, y] = [left * PAPER / width, top * PAPER / width]
      context.strokeRect(x, y, (right - left) * PAPER / width, (bottom - top) * PAPER / width)
      context.fillText(`${label} ${percent(probability)}`, x, y > 14 ? y - 4 : y + 14)
    }
    panel.querySelector('.hint').hidden = strokes.length > 0
  }

  /** The drawing as a PNG, light on dark like the data; null if there is none. */
  async function picture() {
    if (!strokes.length) return null
    const canvas = new OffscreenCanvas(PAPER, Math.round(tall)), context = canvas.getContext('2d')
    context.fillRect(0, 0, PAPER, tall)
    context.strokeStyle = 'white'
    trace(context)
    return canvas.convertToBlob({ type: 'image/png' })
  }

  function show(said) {
    if (!strokes.length) said = {}  // cleared meanwhile
    const { answer, probability, probabilities, error = '', notes = [], seen } = said
    for (const label of Object.keys(probabilities ?? {})) if (!labels.includes(label)) labels.push(label)
    bars.hidden = answer !== undefined && !probabilities
    while (bars.children.length < labels.length) bars.append(copy('bar'))
    labels.forEach((label, i) => {
      bars.children[i].querySelector('.name').textContent = label
      bars.children[i].classList.toggle('best', label === answer)
      fill(bars.children[i], probabilities?.[label])
    })
    panel.querySelector('.answer strong').textContent = answer ?? ''
    panel.querySelector('.answer span').textContent = probability === undefined ? '' : percent(probability)
    panel.querySelector('.error').textContent = error
    panel.querySelector('.notes').textContent = seen ? ['what the model sees', ...notes].join('; ') : ''
    const view = panel.querySelector('.seen')
    view.hidden = !seen
    if (seen) {
      Object.assign(view, { width: seen.width, height: seen.height })
      const rgba = seen.pixels.flatMap(grey => [grey, grey, grey, 255])
      view.getContext('2d').putImageData(new ImageData(Uint8ClampedArray.from(rgba), seen.width), 0, 0)
    }
    boxes = said.boxes ?? []
    paint()
  }

  const ask = asker(number, show)
  function changed() {
    paint()
    ask(picture)
  }
  function clear() {
    [strokes, pointer] = [[], null]
    show({})
  }
  function place(event) {
    const { left, top, width } = sheet.getBoundingClientRect()
    return [(event.clientX - left) * PAPER / width, (event.clientY - top) * PAPER / width]
  }
  sheet.addEventListener('pointerdown', event => {
    if (event.button !== 0 || pointer !== null) return
    pointer = event.pointerId
    sheet.setPointerCapture(pointer)
    strokes.push([place(event)])
    changed()
  })
  sheet.addEventListener('pointermove', event => {
    if (event.pointerId !== pointer) return
    const between = event.getCoalescedEvents?.() ?? []  // a pen moves more often than the screen is redrawn
    strokes.at(-1).push(...(between.length ? between : [event]).map(place))
    changed()
  })
  for (const kind of ['pointerup', 'pointercancel'])
    sheet.addEventListener(kind, event => { if (event.pointerId === pointer) pointer = null })
  sheet.addEventListener('keydown', event => {
    const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? []
    if (event.key === 'Escape') return clear()
    if (x === undefined || pointer !== null) return
    event.preventDefault()
    const from = pen
    pen = [Math.min(PAPER, Math.max(0, pen[0] + STEP * x)), Math.min(tall, Math.max(0, pen[1] + STEP * y))]
    if (event.shiftKey) return paint()
    if (strokes.at(-1)?.at(-1) === from) strokes.at(-1).push(pen)
    else strokes.push([from, pen])
    changed()
  })
  for (const kind of ['focus', 'blur']) sheet.addEventListener(kind, paint)
  panel.querySelector('.clear').addEventListener('click', clear)
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paint)
  new ResizeObserver(paint).observe(sheet)
  show({})
  return panel
}

function wordPanel(model, number) {
  const panel = copy('word')
  const field = panel.querySelector('input'), tiles = panel.querySelector('.letters')
  const verdict = panel.querySelector('.verdict'), typed = () => field.value.trim()

  function show(said, asked) {
    if (typed() !== asked) return  // the word has changed meanwhile
    const { input = '', answer = '', probability, error = '', notes = [] } = said
    const letters = said.letters ?? [...answer].map(letter => ({ letter }))
    tiles.replaceChildren(...letters.map(({ letter, probability: share }, i) => {
      const tile = copy('letter'), isEnd = letter === '' && i === letters.length - 1
      tile.querySelector('.sign').textContent = isEnd ? 'end' : letter || '·'
      tile.classList.toggle('end', isEnd)
      tile.classList.toggle('doubtful', share < DOUBTFUL)
      tile.style.animationDelay = `${70 * i}ms`
      fill(tile, share)
      return tile
    }))
    const meant = [...input].reverse().join(''), right = answer === meant
    const whole = probability === undefined ? '' : `; ${percent(probability)} for the whole word`
    verdict.className = `verdict ${right ? 'right' : 'wrong'}`
    verdict.textContent = asked && !error
      ? [`${answer} is ${right ? '' : 'not '}${input} reversed${right ? '' : `, which is ${meant}`}${whole}`, ...notes].join('; ')
      : ''
    panel.querySelector('.error').textContent = error
  }

  const ask = asker(number, show)
  let timer
  field.addEventListener('input', () => {
    clearTimeout(timer)
    if (!typed()) return show({}, '')
    timer = setTimeout(() => ask(async () => typed() || null), PAUSE)
  })
  return panel
}

function missingPanel({ kind, command, takes }) {
  const panel = copy('missing')
  panel.querySelector('h2').textContent = kind === 'word' ? 'Type a word' : 'Draw'
  panel.querySelector('.command').textContent = command
  panel.querySelector('.takes').textContent = takes
  return panel
}

const { models, missing } = await (await fetch('/models')).json()
document.querySelector('main').append(...models.map((model, number) => {
  const panel = { drawing: drawingPanel, word: wordPanel }[model.kind](model, number)
  const said = [model.title, `run ${model.run_id.slice(0, 12)}`, model.why]
  panel.querySelector('.model').textContent = said.filter(Boolean).join(', ')
  return panel
}), ...missing.map(missingPanel))
